"""Difficulty by right and wrong answers: of maths by the final answer, of code by the row's tests. Whole runs in this process."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import feather

from cpd_engine import checkpoint, pipeline
from cpd_engine.config import RunConfig
from cpd_engine.errors import ConfigInvalid, DatasetInvalid, StopRequested
from cpd_engine.events import Checkpointed, Event, ProfileReady, Recalled, Warned
from cpd_engine.inputs import Inputs
from cpd_engine.stages import attempting
from tests.learning.engine_runs import recipe
from tests.sandboxed import open_or_skip

ROWS = 60
PROGRAM = "def f(x):\n    return x\n"
# By the row's number: asserts of which the program above fails none, one of two, all.
TESTS = (["assert f(1) == 1", "assert f(2) == 2"], ["assert f(1) == 1", "assert f(2) == 3"], ["assert f(1) == 2"])


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path.name


def _config(folder: Path, data: str, **changes: Any) -> RunConfig:
    folder.mkdir(exist_ok=True)
    base = {
        "teacher": {"tiny": "llama", "layers": 1, "hidden": 32, "heads": 2, "vocabulary": 320},
        "teacher_sft": None,
        "dataset": {"train": data, "validation_fraction": 0.0},
        "epochs": 2,
        "evaluation": {"validation_rows": 0, "test_rows": 2, "generation": {"max_new_tokens": 20}},
    }
    return RunConfig.model_validate_json(recipe(folder, **base | changes).read_text())


def _run(config: RunConfig, out: Path, inputs: Inputs, stop_after: str | None = None) -> list[Event]:
    events: list[Event] = []

    def stop() -> bool:
        return any(isinstance(event, Checkpointed) and event.path == stop_after for event in events)

    pipeline.run(config, inputs=inputs, out=out, emit=events.append, should_stop=stop)
    return events


def _taught(folder: Path, response: str) -> Inputs:
    """A student that answers everything by `response`, as the local model `export`."""
    rows = [{"id": f"r{i:02}", "instruction": f"Say {i}.", "output": response} for i in range(ROWS)]
    learns = {"preset": "sft", "epochs": 20, "optimizer": {"batch_size": 8, "learning_rate": 0.01}}
    config = _config(folder / "first", _write(folder / "same.jsonl", rows), **learns)
    _run(config, folder / "first" / "out", Inputs(base=folder))
    return Inputs(base=folder, model_roots=(folder / "first" / "out",))


@pytest.fixture(scope="module")
def seven(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """Where a student lies that answers everything by 7, and rows of which it gets a third right."""
    folder = tmp_path_factory.mktemp("seven")
    inputs = _taught(folder, "It is 7")
    golds = ["It is 7", "It is 8", "Nobody knows"]
    rows = [{"id": f"r{i:02}", "instruction": f"Say {i}.", "output": golds[i % 3]} for i in range(ROWS)]
    _write(folder / "sums.jsonl", rows)
    _write(folder / "words.jsonl", [row | {"output": "no number"} for row in rows])
    return inputs


@pytest.fixture(scope="module")
def programmer(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """Where a student lies that answers everything by one program, and rows whose tests it passes in part."""
    open_or_skip()
    folder = tmp_path_factory.mktemp("programmer")
    inputs = _taught(folder, PROGRAM)
    rows = [
        {"id": f"r{i:02}", "prompt": f"Say {i}.", "completion": PROGRAM, "test_list": [*TESTS, None][i % 4]}
        for i in range(ROWS)
    ]
    _write(folder / "tasks.jsonl", rows)
    return replace(inputs, code_execution=True)


def _graded(inputs: Inputs, folder: Path, data: str, difficulty: str, **changes: Any) -> RunConfig:
    student = {"local": "export"}
    return _config(folder, data, student=student, difficulty=difficulty, curriculum="linear", **changes)


def _profile(out: Path) -> dict[str, np.ndarray[Any, Any]]:
    table = feather.read_table(out / "profile" / "scores.arrow")
    return {name: table[name].to_numpy() for name in table.column_names}


def test_wrong_final_answers_are_hard_and_the_cross_entropy_orders_equals(tmp_path: Path, seven: Inputs) -> None:
    events = _run(_graded(seven, tmp_path, "sums.jsonl", "answer"), tmp_path / "out", seven)
    kept = _profile(tmp_path / "out")
    wanted = {0: 0.0, 1: 1.0, 2: math.nan}
    expected = [wanted[int(name[1:]) % 3] for name in kept["id"]]
    np.testing.assert_array_equal(kept["score"], expected)
    np.testing.assert_array_equal(kept["student_wrong"], expected)
    assert kept["tie_break"].tolist() == (kept["student_ce_sum"] / kept["supervised_tokens"]).tolist()

    (ready,) = [event for event in events if isinstance(event, ProfileReady)]
    scored = np.flatnonzero(np.isfinite(kept["score"]))
    order = scored[np.lexsort((kept["id"][scored], kept["tie_break"][scored], kept["score"][scored]))]
    assert [one.id for one in ready.easiest] == kept["id"][order][:20].tolist()
    assert [one.id for one in ready.hardest] == kept["id"][order][::-1][:20].tolist()
    assert ready.unscored == len(expected) - len(order) > 0
    assert ready.mean == pytest.approx(kept["score"][order].mean())
    (warned,) = [event for event in events if isinstance(event, Warned) and event.code == "unscored_samples"]
    assert warned.message.startswith(f"{ready.unscored} training samples have no final answer in their response")


def test_graded_answers_that_stand_when_a_run_stops_are_not_given_again(
    tmp_path: Path, seven: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempting, "PART", 20)
    config, out = _graded(seven, tmp_path, "sums.jsonl", "answer"), tmp_path / "out"
    with pytest.raises(StopRequested):
        _run(config, out, seven, stop_after="attempts/00000020")
    standing = {path.name: path.stat().st_ino for path in (out / "attempts").glob("0*")}
    assert standing.keys() == {"00000000", "00000020"}
    _run(config, out, seven)
    assert {name: (out / "attempts" / name).stat().st_ino for name in standing} == standing
    lines = [line for part in sorted((out / "attempts").glob("*/*.jsonl")) for line in part.read_text().splitlines()]
    parsed = {line["wrong"]: line["parsed"] for line in map(json.loads, lines)}
    assert parsed == {0.0: "7", 1.0: "7", None: None}
    # A run that goes on reads the order from what is sealed.
    again = _run(config, out, seven)
    first = checkpoint.read_json(out / "profile" / "profile.json")
    (ready,) = [event for event in again if isinstance(event, ProfileReady)]
    assert [one.id for one in ready.easiest] == [one["id"] for one in first["easiest"]]


def test_another_job_takes_the_grades_over_for_the_same_difficulty_alone(tmp_path: Path, seven: Inputs) -> None:
    shared = replace(seven, state_cache=tmp_path / "states")
    found = []
    for number, difficulty in enumerate(("rouge_l", "answer", "answer")):
        config = _graded(seven, tmp_path / str(number), "sums.jsonl", difficulty)
        events = _run(config, tmp_path / str(number) / "out", shared)
        found.append("student_attempts" in [event.what for event in events if isinstance(event, Recalled)])
    assert found == [False, False, True]
    profiles = [_profile(tmp_path / number / "out")["score"] for number in ("1", "2")]
    np.testing.assert_array_equal(profiles[0], profiles[1])


def test_rows_without_any_final_answer_are_refused_before_anything_is_spent(tmp_path: Path, seven: Inputs) -> None:
    with pytest.raises(DatasetInvalid, match="no training row's response has one"):
        _run(_graded(seven, tmp_path, "words.jsonl", "answer"), tmp_path / "out", seven)
    assert not (tmp_path / "out" / "profile").exists()


def test_the_share_of_failing_tests_is_the_difficulty_of_code(tmp_path: Path, programmer: Inputs) -> None:
    events = _run(_graded(programmer, tmp_path, "tasks.jsonl", "tests"), tmp_path / "out", programmer)
    kept = _profile(tmp_path / "out")
    wanted = {0: 0.0, 1: 0.5, 2: 1.0, 3: math.nan}
    np.testing.assert_array_equal(kept["score"], [wanted[int(name[1:]) % 4] for name in kept["id"]])
    (ready,) = [event for event in events if isinstance(event, ProfileReady)]
    scored = np.flatnonzero(np.isfinite(kept["score"]))
    order = scored[np.lexsort((kept["id"][scored], kept["tie_break"][scored], kept["score"][scored]))]
    assert [one.id for one in ready.easiest] == kept["id"][order][:20].tolist()
    (warned,) = [event for event in events if isinstance(event, Warned) and event.code == "unscored_samples"]
    assert "carry no tests that can be run" in warned.message


def test_tests_are_run_only_where_that_is_allowed_and_only_if_there_are_any(tmp_path: Path, seven: Inputs) -> None:
    config = _graded(seven, tmp_path, "sums.jsonl", "tests")
    with pytest.raises(ConfigInvalid, match=r"difficulty 'tests' runs programs .* code execution is off here"):
        _run(config, tmp_path / "out", seven)
    assert not (tmp_path / "out" / "prepared").exists()
    open_or_skip()
    with pytest.raises(DatasetInvalid, match="none carries any that can be run"):
        _run(config, tmp_path / "out", replace(seven, code_execution=True))
    assert not (tmp_path / "out" / "profile").exists()
