"""Published files become the rows and splits that the recipes name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cpd_engine.data.records import Row, read_rows
from cpd_engine.errors import DatasetInvalid
from recipes.paper.__main__ import main
from recipes.paper.experiments import bases, recipe
from recipes.paper.rows import SOURCES, STEP_BY_STEP, Source, write_splits

SMALL = {"train": 12, "validation": 4, "test": 2}


def small(name: str) -> Source:
    return replace(SOURCES[name], sizes=SMALL)


def published(name: str, count: int) -> list[dict[str, Any]]:
    """Rows as their publisher has them, with a field that nobody asked for."""
    theirs = SOURCES[name].fields
    return [{**{field: f"{ours} {n}" for ours, field in theirs.items()}, "type": "x"} for n in range(count)]


def read(file: Path) -> list[Row]:
    rows = list(read_rows(file.read_bytes().splitlines(keepends=True)))
    assert all(isinstance(row, Row) for row in rows)
    return [row for row in rows if isinstance(row, Row)]


@pytest.mark.parametrize("name", SOURCES)
def test_the_splits_are_rows_that_the_engine_reads_and_share_none(name: str, tmp_path: Path) -> None:
    file = tmp_path / "published.json"
    file.write_text(json.dumps(published(name, 20)))
    counts = write_splits(small(name), file, tmp_path / "out", seed=0)
    found = {split: read(tmp_path / "out" / f"{split}.jsonl") for split in SMALL}

    assert counts == {**SMALL, "left_out": 2}
    assert {split: len(rows) for split, rows in found.items()} == SMALL
    assert len({row.instruction for rows in found.values() for row in rows}) == sum(SMALL.values())
    prefix = STEP_BY_STEP if name == "metamath" else "instruction"
    assert all(row.instruction.startswith(prefix) for rows in found.values() for row in rows)
    assert all(row.instruction[-2:] == row.response[-2:] for row in found["train"])


def test_the_seed_decides_the_draw(tmp_path: Path) -> None:
    file = tmp_path / "published.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in published("evol", 40)))
    for out, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_splits(small("evol"), file, tmp_path / out, seed=seed)
    first, again, other = ((tmp_path / out / "train.jsonl").read_text() for out in "abc")

    assert first == again != other


def test_rows_of_one_instruction_stay_in_one_split(tmp_path: Path) -> None:
    file = tmp_path / "published.json"
    rows = [{"query": f"question {n // 3}", "response": f"answer {n}"} for n in range(60)]
    file.write_text(json.dumps(rows))
    write_splits(small("metamath"), file, tmp_path, seed=0)
    asked = [{row.instruction for row in read(tmp_path / f"{split}.jsonl")} for split in SMALL]

    assert len(set.union(*asked)) == sum(map(len, asked))


def test_a_row_without_an_answer_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "published.json"
    file.write_text(json.dumps([*published("evol", 18), {"instruction": "ask", "output": " "}]))

    assert write_splits(small("evol"), file, tmp_path, seed=0)["left_out"] == 0


def test_another_data_set_is_refused_by_the_field_it_lacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "published.json"
    file.write_text(json.dumps(published("evol", 20)))

    assert main(["rows", "metamath", str(file), "--out", str(tmp_path / "out")]) == 2
    assert "query" in capsys.readouterr().err
    with pytest.raises(DatasetInvalid, match="20 usable rows"):
        write_splits(SOURCES["evol"], file, tmp_path / "out", seed=0)


@pytest.mark.parametrize("base", bases())
def test_a_recipe_reads_what_is_written(base: str) -> None:
    named = {recipe(base)["dataset"][split] for split in SMALL}

    assert named in [{f"../../build/paper/{source}/{split}.jsonl" for split in SMALL} for source in SOURCES]
