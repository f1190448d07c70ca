"""What decides which samples are seen: difficulty by answers, hardest first, budgets. Whole runs in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import feather

from cpd_engine import pipeline
from cpd_engine.config import RunConfig
from cpd_engine.data.records import from_json
from cpd_engine.difficulty import fused
from cpd_engine.errors import StopRequested
from cpd_engine.evaluation.text import rouge_l
from cpd_engine.events import Checkpointed, EpochStarted, Event, Planned, ProfileReady
from cpd_engine.inputs import Inputs
from cpd_engine.stages import attempting
from tests.learning.engine_runs import recipe

QUICK: dict[str, Any] = {
    "teacher_sft": None,
    "epochs": 2,
    "evaluation": {"validation_rows": 0, "test_rows": 2, "generation": {"max_new_tokens": 4}},
}


def _run(folder: Path, *, stop_after: str | None = None, **changes: Any) -> list[Event]:
    """A run into folder/out; with `stop_after` until a directory of that path is sealed."""
    config = RunConfig.model_validate_json(recipe(folder, **QUICK | changes).read_text())
    events: list[Event] = []

    def stop() -> bool:
        return any(isinstance(event, Checkpointed) and event.path == stop_after for event in events)

    pipeline.run(config, inputs=Inputs(), out=folder / "out", emit=events.append, should_stop=stop)
    return events


def _answers(out: Path) -> list[dict[str, Any]]:
    parts = sorted((out / "attempts").glob("*/answers.jsonl"))
    return [json.loads(line) for part in parts for line in part.read_text("utf-8").splitlines()]


@pytest.mark.parametrize("difficulty", ["rouge_l", "rank_fusion"])
def test_difficulty_by_answers_scores_every_answer_against_its_own_response(difficulty: str, tmp_path: Path) -> None:
    _run(tmp_path, difficulty=difficulty)
    out = tmp_path / "out"
    rows = [from_json(line) for line in (out / "prepared" / "train.jsonl").read_bytes().splitlines()]
    kept = feather.read_table(out / "profile" / "scores.arrow")
    answers = _answers(out)
    assert [line["id"] for line in answers] == [row.id for row in rows] == kept["id"].to_pylist()
    overlap = np.array([rouge_l(a["text"], [row.response]) for a, row in zip(answers, rows, strict=True)])
    assert kept["student_rouge_l"].to_pylist() == overlap.tolist()
    ce = kept["student_ce_sum"].to_numpy() / kept["supervised_tokens"].to_numpy()
    expected = 1.0 - overlap if difficulty == "rouge_l" else fused(ce, 1.0 - overlap)
    assert kept["score"].to_pylist() == expected.tolist()


def test_answers_that_stand_when_a_run_stops_are_not_given_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempting, "PART", 30)
    with pytest.raises(StopRequested):
        _run(tmp_path, difficulty="rouge_l", stop_after="attempts/00000030")
    parts = tmp_path / "out" / "attempts"
    standing = {path.name: path.stat().st_ino for path in parts.glob("0*")}
    assert standing.keys() == {"00000000", "00000030"}
    _run(tmp_path, difficulty="rouge_l")
    assert {name: (parts / name).stat().st_ino for name in standing} == standing
    whole = tmp_path / "whole"
    whole.mkdir()
    _run(whole, difficulty="rouge_l")
    assert _answers(tmp_path / "out") == _answers(whole / "out")


def test_da_kd_begins_with_all_samples_and_ends_with_the_hardest(tmp_path: Path) -> None:
    events = _run(tmp_path, preset="dakd", epochs=4, subset_repeat=1)
    ready = next(event for event in events if isinstance(event, ProfileReady))
    assert ready.descending
    assert list(ready.cumulative) == sorted(ready.cumulative, reverse=True)
    assert ready.hardest[0].score >= ready.hardest[-1].score > ready.easiest[-1].score >= ready.easiest[0].score
    sizes = [event.subset_size for event in events if isinstance(event, EpochStarted)]
    # The recipe's floor of 30 % lifts the last one.
    assert sizes == [90, 68, 45, 27]
    assert (tmp_path / "out" / "profile" / "profile.png").stat().st_size > 10_000


@pytest.mark.parametrize("preset", ["cpd", "dakd", "kld"])
def test_under_a_budget_every_method_takes_the_same_number_of_whole_steps(preset: str, tmp_path: Path) -> None:
    events = _run(tmp_path, preset=preset, budget={"amount": 23})
    planned = next(event for event in events if isinstance(event, Planned))
    assert planned.total_iterations == 23
    steps = [event for event in events if event.kind == "measured" and event.trained == "student"]
    assert [event.step for event in steps] == list(range(1, 24))
    assert sum(event.values["tokens"] for event in steps) == pytest.approx(planned.supervised_tokens, rel=0.1)


def test_taid_that_moves_step_by_step_is_taught_from_its_second_step_on(tmp_path: Path) -> None:
    events = _run(tmp_path, preset="taid", alpha=0.0, epochs=1, mixing={"kind": "step"}, subset_repeat=1)
    kd = [event.values["kd"] for event in events if event.kind == "measured" and event.trained == "student"]
    assert kd[0] == 0.0
    assert min(kd[1:]) > 0.0
