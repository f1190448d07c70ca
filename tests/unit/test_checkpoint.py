from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from cpd_engine import checkpoint
from cpd_engine.errors import CheckpointCorrupt, StorageFull


def _seal(path: Path, text: str = "one") -> Path:
    with checkpoint.sealing(path, provenance={"seed": 7}) as draft:
        (draft / "sub").mkdir()
        (draft / "sub" / "a.txt").write_text(text)
        checkpoint.write_json(draft / "b.json", {"x": 1.5})
        checkpoint.write_tensors(draft / "c.safetensors", {"w": torch.arange(6.0).reshape(2, 3).T})
    return path


def test_a_sealed_directory_verifies_and_reads_back(tmp_path: Path) -> None:
    path = _seal(tmp_path / "unit")
    manifest = checkpoint.verify(path)
    assert [file.path for file in manifest.files] == ["b.json", "c.safetensors", "sub/a.txt"]
    assert manifest.provenance == {"seed": 7}
    assert checkpoint.read_json(path / "b.json") == {"x": 1.5}
    assert torch.equal(checkpoint.read_tensors(path / "c.safetensors")["w"], torch.arange(6.0).reshape(2, 3).T)
    assert [file.path for file in checkpoint.sealed_files(path)][-1] == "manifest.json"
    assert list(tmp_path.iterdir()) == [path]


def _fail_sealing(path: Path, error: Exception) -> None:
    with checkpoint.sealing(path) as draft:
        (draft / "a").write_text("half")
        raise error


def test_nothing_appears_when_the_work_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        _fail_sealing(tmp_path / "unit", RuntimeError())
    assert list(tmp_path.iterdir()) == []


def test_sealing_again_replaces_the_older_one(tmp_path: Path) -> None:
    path = _seal(_seal(tmp_path / "unit"), "two")
    checkpoint.verify(path)
    assert (path / "sub" / "a.txt").read_text() == "two"
    assert list(tmp_path.iterdir()) == [path]


def test_one_flipped_bit_in_any_file_is_found(tmp_path: Path) -> None:
    path = _seal(tmp_path / "unit")
    for file in [file for file in path.rglob("*") if file.is_file()]:
        content = file.read_bytes()
        for place in range(len(content)):
            file.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
            with pytest.raises(CheckpointCorrupt):
                checkpoint.verify(path)
        file.write_bytes(content)
    checkpoint.verify(path)


def test_a_truncated_or_missing_file_is_found(tmp_path: Path) -> None:
    path = _seal(tmp_path / "unit")
    whole = (path / "c.safetensors").read_bytes()
    (path / "c.safetensors").write_bytes(whole[:-1])
    with pytest.raises(CheckpointCorrupt, match="differs"):
        checkpoint.verify(path)
    (path / "c.safetensors").unlink()
    with pytest.raises(CheckpointCorrupt, match="cannot be read"):
        checkpoint.verify(path)
    (path / "manifest.json").unlink()
    with pytest.raises(CheckpointCorrupt, match=r"manifest\.json cannot be read"):
        checkpoint.verify(path)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_keeps_what_was_sealed(tmp_path: Path, error: Exception) -> None:
    path = _seal(tmp_path / "unit")
    with pytest.raises(StorageFull):
        _fail_sealing(path, error)
    checkpoint.verify(path)
    assert list(tmp_path.iterdir()) == [path]


def test_tensors_that_find_the_disk_full_say_so_as_any_file_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The writer renames a file of its own into place, even over /dev/full, and a disk that is really full needs a mount.
    def full(*_: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OSError, match="No space left") as caught:
        checkpoint.write_tensors(tmp_path / "weights.safetensors", {"weight": torch.zeros(3)})
    assert caught.value.errno == errno.ENOSPC


def test_other_failures_are_not_taken_for_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(PermissionError):
        _fail_sealing(tmp_path / "unit", PermissionError(errno.EACCES, "no"))


def test_recovery_clears_drafts_and_puts_back_what_was_being_replaced(tmp_path: Path) -> None:
    first, second = _seal(tmp_path / "run" / "best"), _seal(tmp_path / "run" / "other")
    first.rename(first.with_name(".best.replaced"))
    shutil.copytree(second, second.with_name(".other.replaced"))
    (tmp_path / "run" / ".more.draft").mkdir()
    checkpoint.recover(tmp_path)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["best", "other"]
    checkpoint.verify(first)


def test_recovery_clears_the_draft_of_a_file_that_was_being_written(tmp_path: Path) -> None:
    checkpoint.write_json_atomically(tmp_path / "run.json", {"x": 1})
    (tmp_path / ".run.json.draft").write_text("{")
    checkpoint.recover(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_pruning_keeps_the_newest_states(tmp_path: Path) -> None:
    for step in (2, 10, 4, 6):
        _seal(tmp_path / checkpoint.state_name(step))
    _seal(tmp_path / "best")
    standing = checkpoint.prune(tmp_path, keep=2)
    assert [path.name for path in standing] == ["step-000006", "step-000010"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best", "step-000006", "step-000010"]


def test_a_discarded_directory_is_gone_and_discarding_nothing_is_fine(tmp_path: Path) -> None:
    path = _seal(tmp_path / "unit")
    checkpoint.discard(path)
    checkpoint.discard(path)
    assert not path.exists()


def test_json_lines_read_back(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"a": 1, "b": "ü\u2028"}, {"a": None}]
    checkpoint.write_jsonl(tmp_path / "x.jsonl", rows)
    assert checkpoint.read_jsonl(tmp_path / "x.jsonl") == rows
