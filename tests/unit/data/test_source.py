from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cpd_engine.config import DatasetSpec, SyntheticData
from cpd_engine.data.records import Row
from cpd_engine.data.rows import Rows
from cpd_engine.data.source import Splits, read_files, split_rows
from cpd_engine.errors import DatasetInvalid
from cpd_engine.inputs import Inputs
from tests.shared_data import shared_data


def _rows(count: int, name: str = "q") -> list[dict[str, Any]]:
    return [{"instruction": f"{name}{i}", "input": "", "output": str(i)} for i in range(count)]


def _write(path: Path, lines: list[Any]) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def _split(spec: DatasetSpec, out: Path, inputs: Inputs) -> tuple[Splits, dict[str, list[Row]]]:
    """What is told of the splits, and the rows that lie in their files."""
    out.mkdir(exist_ok=True)
    splits = split_rows(spec, inputs=inputs, seed=0, into=out)
    return splits, {name: list(Rows(out / f"{name}.jsonl")) for name in splits.rows}


def test_missing_splits_are_cut_from_the_training_file(tmp_path: Path) -> None:
    _write(tmp_path / "all.jsonl", _rows(100))
    spec = DatasetSpec(train="all.jsonl", validation_fraction=0.1, test_fraction=0.2, max_rows=50)
    splits, rows = _split(spec, tmp_path / "once", Inputs(base=tmp_path))
    assert splits.rows == {"train": 50, "validation": 10, "test": 20}
    assert {name: len(found) for name, found in rows.items()} == splits.rows
    assert splits.dropped == {"over_max_rows": 20}
    assert (splits, rows) == _split(spec, tmp_path / "again", Inputs(base=tmp_path))
    assert sorted(path.name for path in (tmp_path / "once").iterdir()) == [
        "test.jsonl",
        "train.jsonl",
        "validation.jsonl",
    ]


def test_given_splits_are_taken_as_they_are(tmp_path: Path) -> None:
    names = {"train": 10, "validation": 4, "test": 3}
    files = {f"ds_{name}0": _write(tmp_path / f"{name}.jsonl", _rows(count)) for name, count in names.items()}
    spec = DatasetSpec(train="ds_train0", validation="ds_validation0", test="ds_test0")
    splits, rows = _split(spec, tmp_path / "out", Inputs(datasets=files))
    assert splits.rows == names
    assert [row.instruction for row in rows["validation"]] == ["q0", "q1", "q2", "q3"]
    assert splits.shared_prompts == 3


def test_too_many_bad_rows_name_the_first_twenty_lines(tmp_path: Path) -> None:
    _write(tmp_path / "bad.jsonl", [*_rows(70), *["{"] * 30])
    with pytest.raises(DatasetInvalid) as caught:
        _split(DatasetSpec(train="bad.jsonl"), tmp_path, Inputs(base=tmp_path))
    head, *listed = str(caught.value).splitlines()
    assert head == "bad.jsonl: 30 of 100 rows cannot be used; max_bad_row_fraction allows 1.00%."
    assert len(listed) == 20
    assert listed[0].startswith("line 71, column 2: invalid_json: ")


def test_few_bad_rows_are_counted_by_reason(tmp_path: Path) -> None:
    _write(tmp_path / "some.jsonl", [*_rows(8), "{", {"instruction": "x", "output": ""}])
    spec = DatasetSpec(train="some.jsonl", max_bad_row_fraction=0.2)
    splits, _ = _split(spec, tmp_path, Inputs(base=tmp_path))
    assert splits.dropped == {"empty_response": 1, "invalid_json": 1}


@pytest.mark.parametrize("name", ["absent.jsonl", "ds_0000000000"])
def test_a_missing_data_set_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetInvalid, match=f"no data set or file '{name}'"):
        _split(DatasetSpec(train=name), tmp_path, Inputs(base=tmp_path))


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    _write(tmp_path / "empty.jsonl", [])
    with pytest.raises(DatasetInvalid, match="no usable row"):
        _split(DatasetSpec(train="empty.jsonl"), tmp_path, Inputs(base=tmp_path))


def test_parquet_json_arrays_and_json_lines_hold_the_same_rows(tmp_path: Path) -> None:
    rows = [{**row, "extra": b"\xff"} for row in _rows(5)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    (tmp_path / "rows.json").write_text(json.dumps(_rows(5)))
    _write(tmp_path / "rows.jsonl", _rows(5))
    (tmp_path / "lines.json").write_bytes((tmp_path / "rows.jsonl").read_bytes())
    names = ("rows.parquet", "rows.json", "lines.json", "rows.jsonl")
    parquet, *others = (list(read_files([tmp_path / name], max_bad_fraction=0.0)) for name in names)
    assert len(parquet) == 5
    assert all(other == parquet for other in others)


def test_parquet_conversations_are_read(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    pq.write_table(pa.Table.from_pylist([{"messages": turns}]), tmp_path / "chat.parquet")
    (row,) = read_files([tmp_path / "chat.parquet"], max_bad_fraction=0.0)
    assert (row.instruction, row.response) == ("Hi", "Ho")


def test_files_are_joined_without_joining_their_lines(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"prompt": name, "completion": name}))
    rows = read_files([tmp_path / "a.jsonl", tmp_path / "b.jsonl"], max_bad_fraction=0.0)
    assert [(row.id, row.instruction) for row in rows] == [("row-1", "a"), ("row-2", "b")]


def test_a_broken_parquet_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    with pytest.raises(DatasetInvalid, match="not a parquet file"):
        list(read_files([tmp_path / "rows.parquet"], max_bad_fraction=0.0))


def test_synthetic_rows_come_with_their_splits(tmp_path: Path) -> None:
    splits, _ = _split(DatasetSpec(synthetic=SyntheticData(rows=240)), tmp_path, Inputs())
    assert splits.rows == {"train": 200, "validation": 20, "test": 20}
    assert splits.shared_prompts == 0
    assert splits.dropped == {}


def test_dolly_is_read_whole_and_its_known_overlap_is_found(tmp_path: Path) -> None:
    folder = shared_data("dolly")
    spec = DatasetSpec(train="train.jsonl", validation="dev.jsonl", test="test.jsonl", max_bad_row_fraction=0.0)
    splits, _ = _split(spec, tmp_path, Inputs(base=folder))
    assert splits.rows == {"train": 11435, "validation": 1000, "test": 500}
    assert splits.shared_prompts == 9


@pytest.mark.parametrize(
    "name", ["self_instruct/test.jsonl", "vicuna/test.jsonl", "sni/sample.jsonl", "unni/sample.jsonl"]
)
def test_the_evaluation_sets_are_read_without_a_bad_row(name: str) -> None:
    checked = read_files([shared_data(*name.split("/"))], max_bad_fraction=0.0)
    rows = list(checked)
    assert rows
    assert not checked.bad
    if name.startswith("sni"):
        assert any(len(row.references) > 1 for row in rows)
