"""Suites at the end of a whole run, broken off and gone on with, and of a model by itself."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cpd_engine import checkpoint, pipeline
from cpd_engine.config import ExaminationConfig, RunConfig
from cpd_engine.errors import ConfigInvalid, DatasetInvalid, StopRequested
from cpd_engine.evaluation.maths import final_answer
from cpd_engine.evaluation.text import rouge_l
from cpd_engine.events import Event as EngineEvent
from cpd_engine.events import Warned, to_dict
from cpd_engine.examination import examine
from cpd_engine.inputs import Inputs
from tests.learning.engine_runs import UNITS, Event, contents, recipe, run_to_end, run_until, start

ALL = (*UNITS, "questions", "suites")
SUBJECTS = ("teacher", "untouched", "student")
WORDS = ("red", "green", "blue", "black", "white")
SUITES: list[dict[str, Any]] = [
    {"task": "custom", "name": "colours", "data": "ds_colours00", "seeds": [10, 20], "max_new_tokens": 6},
    {"task": "gsm8k", "data": "ds_sums00000", "shots": 0, "max_new_tokens": 8, "rows": 4},
]
PARTS = ("colours/seed-10", "colours/seed-20", "gsm8k/greedy")


def _rows(folder: Path) -> Inputs:
    """The suites' rows, under the ids that the service would have given them."""
    colours: list[dict[str, Any]] = [
        {"instruction": f"Name colour {i}.", "output": [word, word.upper()]} for i, word in enumerate(WORDS)
    ]
    sums = [{"question": f"{i}+{i}?", "answer": f"It is {2 * i}.\n#### {2 * i}"} for i in range(6)]
    files: dict[str, list[dict[str, Any]]] = {"ds_colours00": colours, "ds_sums00000": sums}
    for name, rows in files.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Inputs(datasets={name: folder / f"{name}.jsonl" for name in files})


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    """The suites' rows of a test of its own."""
    return _rows(tmp_path)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Event]]:
    """The directory of a run that nothing happened to, and what it said; only to be read."""
    folder = tmp_path_factory.mktemp("unbroken")
    return folder / "out", _run(_config(folder), folder / "out", _rows(folder))


def _recipe(folder: Path, suites: list[dict[str, Any]] = SUITES, **changes: Any) -> Path:
    evaluation = {"validation_metric": "ce", "validation_rows": 4, "test_rows": 3, "suites": suites}
    evaluation["generation"] = {"max_new_tokens": 4, "batch_size": 2}
    return recipe(folder, **{"teacher_sft": None, "epochs": 2, "evaluation": evaluation} | changes)


def _config(folder: Path, **changes: Any) -> RunConfig:
    return RunConfig.model_validate_json(_recipe(folder, **changes).read_text())


class _Killed(BaseException):
    """Stands for a kill: nothing in the engine may answer to it."""


def _run(config: RunConfig, out: Path, inputs: Inputs, die: Callable[[Event], bool] = lambda _: False) -> list[Event]:
    events: list[Event] = []

    def emit(event: EngineEvent) -> None:
        events.append(json.loads(json.dumps(to_dict(event))))
        if die(events[-1]):
            raise _Killed

    with suppress(_Killed):
        pipeline.run(config, inputs=inputs, out=out, emit=emit, should_stop=lambda: False)
    return events


def _of(events: list[Event], kind: str) -> list[Event]:
    return [event for event in events if event["kind"] == kind]


def test_every_model_s_every_answer_is_kept_with_its_score(unbroken: tuple[Path, list[Event]]) -> None:
    out, events = unbroken
    told = [(e["subject"], e["suite"], e["seed"]) for e in _of(events, "suite_scored")]
    assert told == [(s, *part) for s in SUBJECTS for part in (("colours", 10), ("colours", 20), ("gsm8k", None))]
    assert {p.parent.relative_to(out / "suites").as_posix() for p in (out / "suites").rglob("manifest.json")} == {
        f"{subject}/{part}" for subject in SUBJECTS for part in PARTS
    }
    lines = checkpoint.read_jsonl(out / "suites" / "student" / "colours" / "seed-20" / "answers.jsonl")
    assert [(line["row"], line["task"], line["seed"]) for line in lines] == [
        (f"row-{i}", "custom", 20) for i in range(1, 6)
    ]
    for line, word in zip(lines, WORDS, strict=True):
        assert line["scores"]["rouge_l"] == rouge_l(line["text"], [word, word.upper()])
        assert line["finish_reason"] in ("stop", "length")
        assert len(line["tokens"]) <= 6
    solved = checkpoint.read_jsonl(out / "suites" / "teacher" / "gsm8k" / "greedy" / "answers.jsonl")
    assert [line["parsed"] for line in solved] == [final_answer(line["text"]) for line in solved]
    scores = checkpoint.read_json(out / "suites" / "teacher" / "gsm8k" / "greedy" / "scores.json")
    assert scores["settings"]["generation"]["max_new_tokens"] == 8
    (hashed,) = {e["settings_sha256"] for e in _of(events, "suite_scored") if e["suite"] == "gsm8k"}
    assert scores["settings_sha256"] == hashed


def test_the_report_the_samples_and_the_card_tell_of_the_suites(unbroken: tuple[Path, list[Event]]) -> None:
    out, events = unbroken
    (reported,) = _of(events, "reported")
    colours, sums = reported["suites"]
    assert (colours["suite"], colours["rows"], colours["seeds"]) == ("colours", 5, [10, 20])
    assert (sums["suite"], sums["rows"], sums["seeds"]) == ("gsm8k", 4, [])
    by_seed = [
        event["metrics"]["rouge_l"]
        for event in _of(events, "suite_scored")
        if (event["subject"], event["suite"]) == ("student", "colours")
    ]
    assert colours["scores"]["student"]["rouge_l"]["mean"] == pytest.approx(sum(by_seed) / 2)
    assert {(c["subject"], c["metric"]) for c in colours["comparisons"]} == {
        (subject, metric) for subject in ("teacher", "untouched") for metric in ("rouge_l", "exact_match")
    }
    (first, *_) = checkpoint.read_jsonl(out / "report" / "suites" / "colours.jsonl")
    assert (first["row"], first["references"]) == ("row-1", ["red", "RED"])
    assert {subject: len(said["generations"]) for subject, said in first["answers"].items()} == dict.fromkeys(
        SUBJECTS, 2
    )
    card = (out / "export" / "README.md").read_text()
    assert "| colours | 5 | ROUGE-L |" in card
    assert "| gsm8k | 4 | accuracy, % |" in card


def test_a_run_killed_between_any_two_parts_ends_in_the_bytes_of_an_unbroken_one(
    tmp_path: Path, inputs: Inputs, unbroken: tuple[Path, list[Event]]
) -> None:
    config, whole = _config(tmp_path), unbroken[0]
    out = tmp_path / "broken"
    asked: list[str] = []
    for subject in SUBJECTS:
        for part in PARTS:
            path = f"suites/{subject}/{part}"
            events = _run(config, out, inputs, die=lambda e, path=path: e.get("path") == path)  # type: ignore[misc]  # binds one path
            assert events[-1]["path"] == path
            asked += [e["path"] for e in _of(events, "checkpointed") if e["path"].startswith("suites/")]
    last = _run(config, out, inputs)
    # Each part was made once, though the run began ten times.
    assert asked == [f"suites/{subject}/{part}" for subject in SUBJECTS for part in PARTS]
    assert not [e for e in _of(last, "checkpointed") if e["path"].startswith("suites/")]
    assert contents(out, *ALL) == contents(whole, *ALL)


def test_a_process_killed_in_the_midst_of_an_answer_ends_like_an_unbroken_one(
    tmp_path: Path, inputs: Inputs, unbroken: tuple[Path, list[Event]]
) -> None:
    spec = _recipe(tmp_path)
    named = [f"--dataset={name}={path}" for name, path in inputs.datasets.items()]
    out = tmp_path / "broken"

    def answering(event: Event) -> bool:
        return event["kind"] == "progressed" and str(event["label"]).startswith("colours of untouched, seed 20")

    run_until(start(spec, out, *named), answering, signal.SIGKILL)
    assert not (out / "suites" / "untouched" / "colours" / "seed-20").exists()
    run_to_end(start(spec, out, *named))
    assert contents(out, *ALL) == contents(unbroken[0], *ALL)


def test_two_processes_share_the_answers_and_say_the_same(
    tmp_path: Path, inputs: Inputs, unbroken: tuple[Path, list[Event]]
) -> None:
    named = [f"--dataset={name}={path}" for name, path in inputs.datasets.items()]
    out = tmp_path / "out"
    run_to_end(start(_recipe(tmp_path, resources={"gpus": 2}), out, *named))
    # The student's weights are the same but for rounding; these models came to both runs as they are.
    for subject in ("teacher", "untouched"):
        assert contents(out, f"suites/{subject}") == contents(unbroken[0], f"suites/{subject}")
    assert len(contents(out, "suites/student")) == len(contents(unbroken[0], "suites/student"))


def test_answers_do_not_depend_on_the_batch_size(
    tmp_path: Path, inputs: Inputs, unbroken: tuple[Path, list[Event]]
) -> None:
    found = []
    for batch_size in (1, 3, 8):
        config = ExaminationConfig.model_validate({"suites": SUITES, "batch_size": batch_size, "threads": 1})
        out = tmp_path / f"by-{batch_size}"
        examine(
            config,
            model=unbroken[0] / "export",
            inputs=inputs,
            out=out,
            emit=lambda _: None,
            should_stop=lambda: False,
        )
        found.append(contents(out, *(f"suites/model/{part}" for part in PARTS)))
    assert found[0] == found[1] == found[2]


def test_a_model_by_itself_is_scored_as_it_is_in_a_run(
    tmp_path: Path, inputs: Inputs, unbroken: tuple[Path, list[Event]]
) -> None:
    out, alone = unbroken[0], tmp_path / "alone"
    config = ExaminationConfig.model_validate({"suites": SUITES, "batch_size": 2, "threads": 1})
    events: list[EngineEvent] = []

    def score(should_stop: Callable[[], bool]) -> None:
        examine(config, model=out / "export", inputs=inputs, out=alone, emit=events.append, should_stop=should_stop)

    # Stopped after the first part, and gone on with.
    with pytest.raises(StopRequested):
        score(lambda: (alone / "suites" / "model" / "colours" / "seed-10").exists())
    assert to_dict(events[-1]) == {"kind": "stopped", "phase": "evaluate"}
    score(lambda: False)
    for part in PARTS:
        answers = "answers.jsonl"
        assert (alone / "suites/model" / part / answers).read_bytes() == (
            out / "suites/student" / part / answers
        ).read_bytes()
    told = [to_dict(event) for event in events if event.kind == "examined"]
    in_run = checkpoint.read_json(out / "report" / "report.json")
    assert [s["scores"]["model"] for s in told[-1]["suites"]] == [s["scores"]["student"] for s in in_run["suites"]]
    assert [s["settings_sha256"] for s in told[-1]["suites"]] == [s["settings_sha256"] for s in in_run["suites"]]


def test_what_the_teacher_said_in_another_job_is_not_asked_again(tmp_path: Path, inputs: Inputs) -> None:
    shared = replace(inputs, state_cache=tmp_path / "shelf")
    first = _run(_config(tmp_path), tmp_path / "first", shared)
    second = _run(_config(tmp_path, seed=5), tmp_path / "second", shared)

    def asked(events: list[Event]) -> set[str]:
        return {
            e["label"] for e in _of(events, "progressed") if " of teacher" in e["label"] and "graded" not in e["label"]
        }

    of_suites = {"colours of teacher, seed 10", "colours of teacher, seed 20", "gsm8k of teacher"}
    assert asked(first) >= of_suites
    assert not asked(second) & of_suites
    for part in PARTS:
        answers = f"suites/teacher/{part}/answers.jsonl"
        assert (tmp_path / "first" / answers).read_bytes() == (tmp_path / "second" / answers).read_bytes()


def test_a_chat_model_is_asked_in_its_own_words(
    tmp_path: Path, inputs: Inputs, unbroken: tuple[Path, list[Event]]
) -> None:
    events = _run(_config(tmp_path, template="chat"), tmp_path / "out", inputs)
    hashes = [{e["settings_sha256"] for e in _of(run, "suite_scored")} for run in (events, unbroken[1])]
    assert len(hashes[0]) == len(hashes[1]) == 2
    assert not hashes[0] & hashes[1]


@pytest.mark.parametrize(
    ("suite", "error", "told"),
    [
        ({"task": "humaneval", "data": "ds_sums00000"}, ConfigInvalid, "code execution is off"),
        ({"task": "dolly", "data": "ds_nowhere00"}, DatasetInvalid, "suite dolly, data: no data set or file"),
        ({"task": "gsm8k", "data": "ds_colours00"}, DatasetInvalid, "line 1: missing_answer"),
        ({"task": "gsm8k", "data": "ds_sums00000", "examples": "ds_sums00000", "shots": 7}, DatasetInvalid, "holds 6"),
    ],
)
def test_a_suite_that_cannot_be_scored_is_refused_before_anything_is_spent(
    tmp_path: Path, inputs: Inputs, suite: dict[str, Any], error: type[Exception], told: str
) -> None:
    out = tmp_path / "out"
    with pytest.raises(error, match=told):
        _run(_config(tmp_path, suites=[suite]), out, inputs)
    assert not [name for name in ("base-teacher", "encoded", "profile", "train") if (out / name).exists()]


def test_a_forecast_counts_the_suites_and_says_what_it_leaves_out(tmp_path: Path, inputs: Inputs) -> None:
    events: list[EngineEvent] = []

    def forecast(name: str, suites: list[dict[str, Any]]) -> dict[str, float]:
        told = pipeline.estimate(
            _config(tmp_path, suites=suites),
            inputs=inputs,
            out=tmp_path / name,
            emit=events.append,
            should_stop=lambda: False,
        )
        return {phase.phase: phase.cpu_s for phase in told.phases}

    without, with_them = forecast("without", []), forecast("with", [SUITES[0] | {"seeds": list(range(32))}, SUITES[1]])
    # Thirty-two answers to five rows and one to four more, where three rows were answered once.
    assert with_them["evaluate"] > without["evaluate"]
    [left_out] = [e.message for e in events if isinstance(e, Warned) and e.code == "grading_not_in_forecast"]
    assert "12 final answers" in left_out


def test_prompts_without_room_for_an_answer_are_told_of_once_a_model(tmp_path: Path, inputs: Inputs) -> None:
    long = [{"task": "gsm8k", "data": "ds_sums00000", "shots": 8, "max_new_tokens": 8}]
    events = _run(_config(tmp_path, suites=long), tmp_path / "out", inputs)
    warned = [e["message"] for e in _of(events, "warned") if e["code"] == "prompts_too_long"]
    assert [message.partition(":")[0] for message in warned] == [f"gsm8k of {subject}" for subject in SUBJECTS]
    assert "6 of 6 prompts leave no room" in warned[0]
    (suite,) = _of(events, "reported")[0]["suites"]
    assert suite["scores"]["student"]["accuracy"]["mean"] == 0.0
