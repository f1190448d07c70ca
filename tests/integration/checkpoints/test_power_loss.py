"""What a power loss leaves, cut at every fsync: what was sealed is there whole, what was not is not taken for it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import get_args

import pytest
import torch

from api.core.archive import sha256_of
from api.core.db import connect
from api.core.directory import DirectoryStore
from cpd_engine import checkpoint
from tests.integration.checkpoints.forgetful_disk import Names, PowerLoss, forgetful

BOTH = pytest.mark.parametrize("names", get_args(Names))


def seal(path: Path, step: int) -> None:
    """A state whose every file tells its step."""
    with checkpoint.sealing(path) as draft:
        checkpoint.write_tensors(draft / "weights.safetensors", {"w": torch.full((64,), float(step))})
        (draft / "parts").mkdir()
        checkpoint.write_json(draft / "parts" / "state.json", {"step": step})


def sound(path: Path) -> int:
    """The step that a sealed state is of, in all its files."""
    checkpoint.verify(path)
    step = int(checkpoint.read_json(path / "parts" / "state.json")["step"])
    assert torch.equal(checkpoint.read_tensors(path / "weights.safetensors")["w"], torch.full((64,), float(step)))
    return step


def cut_at_every_fsync(
    work: Callable[[Path], None], found: Callable[[Path, bool], None], tmp: Path, names: Names
) -> int:
    """Do `work` in a folder again and again, the power failing at the first fsync, the second …; `found` judges what is left.

    Its second argument tells whether the work was over before the power failed. Returns the number of cuts.
    """
    for cut in itertools.count(1):
        root = tmp / f"{cut}"
        (root / "run").mkdir(parents=True)
        seal(root / "run" / "step-000001", 1)
        with forgetful(root, lost_at=cut) as disk:
            with suppress(PowerLoss):
                work(root / "run")
            over = disk.syncs < cut
            left = disk.after_power_loss(tmp / f"{cut}-left", names=names)
        checkpoint.recover(left)
        found(left / "run", over)
        if over:
            return cut
    raise AssertionError("unreachable")


@BOTH
def test_a_state_that_was_sealed_is_there_and_one_before_it_always(tmp_path: Path, names: Names) -> None:
    def found(run: Path, over: bool) -> None:
        steps = [sound(path) for path in checkpoint.states(run)]
        assert steps in ([[1, 2]] if over else [[1], [1, 2]])

    cuts = cut_at_every_fsync(lambda run: seal(run / "step-000002", 2), found, tmp_path, names)
    assert cuts > 6, "every file, every folder and the place of the new name were synced"


@BOTH
def test_the_first_state_of_a_new_folder_is_there(tmp_path: Path, names: Names) -> None:
    def found(run: Path, over: bool) -> None:
        assert [sound(path) for path in checkpoint.states(run / "train")] in ([[2]] if over else [[], [2]])

    cut_at_every_fsync(lambda run: seal(run / "train" / "step-000002", 2), found, tmp_path, names)


@BOTH
def test_of_a_directory_that_is_replaced_the_old_or_the_new_is_there(tmp_path: Path, names: Names) -> None:
    def found(run: Path, over: bool) -> None:
        assert sound(run / "step-000001") in ([2] if over else [1, 2])

    cut_at_every_fsync(lambda run: seal(run / "step-000001", 2), found, tmp_path, names)


@BOTH
def test_a_file_that_the_store_took_is_there_under_its_key(tmp_path: Path, names: Names) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"weights" * 1000)

    def found(store: Path, over: bool) -> None:
        kept = list(store.rglob("model.safetensors"))
        assert len(kept) == 1 or not over
        assert all(path.read_bytes() == source.read_bytes() for path in kept)

    def put(store: Path) -> None:
        DirectoryStore(store).put("jobs/j/1/model/model.safetensors", source, sha256=sha256_of(source))

    cut_at_every_fsync(put, found, tmp_path, names)


@BOTH
def test_a_file_of_settings_is_there_whole(tmp_path: Path, names: Names) -> None:
    def found(run: Path, over: bool) -> None:
        path = run / "run.json"
        assert path.exists() or not over
        assert not path.exists() or checkpoint.read_json(path) == {"sha256": "0" * 64}

    def write(run: Path) -> None:
        checkpoint.write_json_atomically(run / "run.json", {"sha256": "0" * 64})

    cut_at_every_fsync(write, found, tmp_path, names)


def test_a_commit_of_the_embedded_database_is_on_the_disk_when_it_returns(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path / 'cpd.sqlite3'}")
    with engine.connect() as connection:
        # Its writes are C's, which no test of ours sees: 2 is FULL, an fsync of the log at each commit.
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
    engine.dispose()
