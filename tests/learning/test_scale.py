"""What many rows leave in memory: files mapped, and a few numbers a row. And what becomes of the files when a run breaks off."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.scale.job import STAGES, open_run, write_source
from cpd_engine import checkpoint
from cpd_engine.data.store import Samples
from cpd_engine.errors import StopRequested
from cpd_engine.events import DataReady, Event, Progressed, Warned
from cpd_engine.stages.context import Run
from cpd_engine.stages.prepare import prepare
from tests.learning.engine_runs import contents

# Few: rows for more than two chunks, of which one is held while the next is encoded.
FEW, MANY = 2_600, 6_000
# A row held as Python objects takes 670 bytes here, its sample 270 though its ids are a view, its ids as lists 5,700.
BYTES_PER_ROW = 200


def _peak(work: Callable[[Run], object], run: Run) -> int:
    """Most bytes that Python and numpy held at once, above the start."""
    tracemalloc.start()
    try:
        work(run)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _peaks(folder: Path, rows: int) -> dict[str, int]:
    write_source(folder, rows)
    run = open_run(folder, emit=lambda _: None)
    return {name: _peak(stage, run) for name, stage in STAGES.items()}


def test_no_stage_holds_the_rows_or_the_samples(tmp_path: Path) -> None:
    _peaks(tmp_path / "first", 100)  # imports what the stages need
    few, many = (_peaks(tmp_path / str(rows), rows) for rows in (FEW, MANY))
    grown = {name: (many[name] - few[name]) / (MANY - FEW) for name in STAGES}
    assert {name: size for name, size in grown.items() if size > BYTES_PER_ROW} == {}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_source(tmp_path, 1_200)
    return tmp_path


def test_a_process_that_finds_the_samples_encoded_maps_them(folder: Path) -> None:
    events: list[Event] = []
    first, again = (prepare(open_run(folder, emit=events.append)) for _ in range(2))
    told = [event for event in events if isinstance(event, DataReady)]
    assert told[0] == told[1]
    assert told[0].supervised_tokens == sum(sample.supervised for sample in first.samples)
    after = events[events.index(told[0]) + 1 :]
    assert not [event for event in after if isinstance(event, Progressed)]
    assert isinstance(again.samples, Samples)
    assert again.samples.lengths.tolist() == first.samples.lengths.tolist()


def test_a_stop_in_the_middle_of_the_encoding_leaves_nothing_half_done(folder: Path, tmp_path: Path) -> None:
    whole, broken = open_run(folder, emit=lambda _: None), folder / "broken"
    prepare(whole)
    events: list[Event] = []
    run = replace(open_run(folder, emit=events.append), out=broken)
    asked = replace(run, should_stop=lambda: any(isinstance(event, Progressed) for event in events))
    with pytest.raises(StopRequested):
        prepare(asked)
    assert [path.name for path in broken.iterdir()] == ["prepared"]
    prepare(run)
    assert contents(broken, "prepared", "encoded") == contents(whole.out, "prepared", "encoded")


def test_damaged_samples_are_encoded_again(folder: Path) -> None:
    events: list[Event] = []
    run = open_run(folder, emit=events.append)
    prepare(run)
    file = run.out / "encoded" / "train.arrow"
    sound = file.read_bytes()
    file.write_bytes(sound[:-100] + bytes(100))
    prepare(run)
    assert [event.code for event in events if isinstance(event, Warned)] == ["checkpoint_corrupt"]
    assert file.read_bytes() == sound


def test_samples_of_other_rows_are_encoded_anew(folder: Path) -> None:
    run = open_run(folder, emit=lambda _: None)
    before = prepare(run).samples.lengths.tolist()
    rows = (folder / "rows.jsonl").read_text().splitlines(keepends=True)
    (folder / "rows.jsonl").write_text("".join(rows[:1_000]))
    checkpoint.discard(run.out / "prepared")
    prepared = prepare(run)
    assert len(prepared.samples) == len(prepared.rows) < len(before)
    assert [prepared.rows[sample.row].id for sample in prepared.samples] == [row.id for row in prepared.rows]
