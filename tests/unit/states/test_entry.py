"""One set on the disk: whole and believed, or taken up where it is sound."""

from __future__ import annotations

import itertools
from contextlib import closing
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cpd_engine.errors import CheckpointCorrupt
from cpd_engine.projection import Head
from cpd_engine.states import entry
from cpd_engine.states.entry import Filling, Form
from cpd_engine.states.records import read_head, write_head

PACKS = 6


def _form(dtype: torch.dtype = torch.float32, layout: str = "one") -> Form:
    return Form(tokens=4 * PACKS, width=3, dtype=dtype, layout=layout)


def _rows(dtype: torch.dtype = torch.float32) -> Tensor:
    rows = torch.randint(0, 100, (4 * PACKS, 3), generator=torch.Generator().manual_seed(1))
    return rows.to(dtype)


def _filling(path: Path, form: Form | None = None) -> Filling:
    """Every pack is a block: the clock leaps."""
    return Filling(path, form or _form(), told={"by": ("a", 1)}, clock=itertools.count(step=100).__next__)


def _head() -> Head:
    return Head(weight_WD=torch.arange(18.0).view(6, 3), vocabulary=4, bias_W=torch.ones(6), scale=0.5, soft_cap=30.0)


def _fill(filling: Filling, rows: Tensor, *, upto: int = PACKS) -> None:
    filling.put_head(lambda folder: write_head(_head(), folder))
    for pack in range(filling.packs, upto):
        filling.put(rows[4 * pack : 4 * pack + 4], pack + 1)


def _sealed(path: Path, dtype: torch.dtype = torch.float32) -> Tensor:
    rows = _rows(dtype)
    filling = _filling(path, _form(dtype))
    _fill(filling, rows)
    filling.seal()
    return rows


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int32])
def test_states_come_back_bit_for_bit_with_the_head(tmp_path: Path, dtype: torch.dtype) -> None:
    rows = _sealed(tmp_path / "set", dtype)
    entry.verify(tmp_path / "set", _form(dtype))
    assert torch.equal(entry.mapped(tmp_path / "set", _form(dtype)), rows)
    head = read_head(tmp_path / "set", torch.device("cpu"))
    assert torch.equal(head.weight_WD, _head().weight_WD[:4])
    assert head.bias_W is not None
    assert torch.equal(head.bias_W, torch.ones(4))
    assert (head.vocabulary, head.scale, head.soft_cap) == (4, 0.5, 30.0)


def test_mapped_states_cannot_be_written_through(tmp_path: Path) -> None:
    rows = _sealed(tmp_path / "set")
    entry.mapped(tmp_path / "set", _form()).zero_()
    assert torch.equal(entry.mapped(tmp_path / "set", _form()), rows)


def test_a_fill_that_broke_off_goes_on_after_its_last_block(tmp_path: Path) -> None:
    broken = _filling(tmp_path / "set")
    _fill(broken, _rows(), upto=4)
    broken.close()
    assert not entry.is_sealed(tmp_path / "set")
    assert entry.packs_done(tmp_path / "set") == 4
    again = _filling(tmp_path / "set")
    assert again.packs == 4
    _fill(again, _rows())
    again.seal()
    entry.verify(tmp_path / "set", _form())
    assert torch.equal(entry.mapped(tmp_path / "set", _form()), _rows())


@pytest.mark.parametrize(
    ("torn", "believed"),
    [
        (lambda journal: journal[:-3], 3),
        (lambda journal: journal + b'{"packs"', 4),
        (lambda journal: b"\0\n" + journal, 0),
    ],
    ids=["last line cut", "line begun", "noise first"],
)
def test_a_torn_journal_is_believed_as_far_as_it_is_whole(tmp_path: Path, torn: object, believed: int) -> None:
    broken = _filling(tmp_path / "set")
    _fill(broken, _rows(), upto=4)
    broken.close()
    journal = tmp_path / "set" / "journal.jsonl"
    journal.write_bytes(torn(journal.read_bytes()))  # type: ignore[operator]  # one of the lambdas above
    again = _filling(tmp_path / "set")
    assert again.packs == believed
    _fill(again, _rows())
    again.seal()
    entry.verify(tmp_path / "set", _form())


def test_a_block_that_never_reached_the_disk_is_filled_again(tmp_path: Path) -> None:
    broken = _filling(tmp_path / "set")
    _fill(broken, _rows(), upto=4)
    broken.close()
    _flip(tmp_path / "set" / "states.bin", at=2 * 4 * 3 * 4 + 1)
    again = _filling(tmp_path / "set")
    assert again.packs == 2
    _fill(again, _rows())
    again.seal()
    assert torch.equal(entry.mapped(tmp_path / "set", _form()), _rows())


def test_another_layout_starts_over(tmp_path: Path) -> None:
    broken = _filling(tmp_path / "set")
    _fill(broken, _rows(), upto=4)
    broken.close()
    with closing(_filling(tmp_path / "set", _form(layout="another"))) as other:
        assert other.packs == 0


@pytest.mark.parametrize("file", ["states.bin", "head.safetensors", "head.json", "sealed.json"])
def test_a_damaged_file_is_found_out(tmp_path: Path, file: str) -> None:
    _sealed(tmp_path / "set")
    _flip(tmp_path / "set" / file, at=-2)
    with pytest.raises(CheckpointCorrupt):
        entry.verify(tmp_path / "set", _form())


@pytest.mark.parametrize("size", [0, 17, 4 * PACKS * 3 * 4 - 1])
def test_a_file_of_another_size_is_found_out(tmp_path: Path, size: int) -> None:
    _sealed(tmp_path / "set")
    content = (tmp_path / "set" / "states.bin").read_bytes()
    (tmp_path / "set" / "states.bin").write_bytes(content[:size])
    with pytest.raises(CheckpointCorrupt):
        entry.verify(tmp_path / "set", _form())


def test_a_set_that_is_not_whole_cannot_be_sealed(tmp_path: Path) -> None:
    with closing(_filling(tmp_path / "set")) as filling:
        _fill(filling, _rows(), upto=4)
        with pytest.raises(ValueError, match="192 bytes of states were put where 288 belong"):
            filling.seal()
    assert not entry.is_sealed(tmp_path / "set")


def test_the_whole_size_is_taken_from_the_disk_before_anything_is_computed(tmp_path: Path) -> None:
    _filling(tmp_path / "set").close()
    assert (tmp_path / "set" / "states.bin").stat().st_size == _form().size_bytes


def _flip(path: Path, *, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(bytes(content))
