"""The judge at the end of a whole run: what it is asked, what is told of it, and what is asked again."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cpd_engine import checkpoint, pipeline
from cpd_engine.config import RunConfig
from cpd_engine.errors import ConfigInvalid, StopRequested
from cpd_engine.events import to_dict
from cpd_engine.inputs import Inputs
from cpd_engine.stages import judging
from tests.integration.judge_stub import KEY, Asked, JudgeStub, Reply, saying, serving
from tests.learning.engine_runs import Event, contents, recipe, run_to_end, start

WORDS = ("red", "green", "blue", "black", "white")
SUITES: list[dict[str, Any]] = [
    {"task": "custom", "name": "colours", "data": "colours.jsonl", "seeds": [20, 10], "max_new_tokens": 6},
    {"task": "gsm8k", "data": "sums.jsonl", "shots": 0, "max_new_tokens": 4},
]
JUDGE = {"against": ["teacher", "untouched"]}
# Every row against two models in two orders.
QUESTIONS = 4 * len(WORDS)


def always_a(_asked: Asked, _number: int) -> Reply:
    return saying("Both say little. [[A]]")


def refusing(_asked: Asked, _number: int) -> Reply:
    return Reply(status=401)


def _recipe(folder: Path, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    colours = [{"instruction": f"Name colour {i}.", "output": word} for i, word in enumerate(WORDS)]
    sums = [{"question": f"{i}+{i}?", "answer": f"#### {2 * i}"} for i in range(2)]
    for name, rows in (("colours", colours), ("sums", sums)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    evaluation = {"validation_rows": 0, "test_rows": 2, "suites": SUITES, "judge": JUDGE}
    evaluation["generation"] = {"max_new_tokens": 4}
    return recipe(folder, **{"teacher_sft": None, "epochs": 2, "evaluation": evaluation} | changes)


def _run(
    folder: Path, stub: JudgeStub, *, should_stop: Callable[[], bool] = lambda: False, **endpoint: Any
) -> list[Event]:
    config = RunConfig.model_validate_json(_recipe(folder).read_text())
    events: list[Event] = []
    pipeline.run(
        config,
        inputs=Inputs(base=folder, judge=stub.endpoint(**endpoint)),
        out=folder / "out",
        emit=lambda event: events.append(json.loads(json.dumps(to_dict(event)))),
        should_stop=should_stop,
    )
    return events


def _reported(events: list[Event]) -> dict[str, Any]:
    (reported,) = [event for event in events if event["kind"] == "reported"]
    judged: dict[str, Any] = reported["judged"]
    return judged


def _warnings(events: list[Event]) -> list[str]:
    return [event["message"] for event in events if event["kind"] == "warned" and event["code"] == "not_judged"]


@pytest.fixture(scope="module")
def unjudged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Event]]:
    """A run whose judge refuses, and what it said; to be copied."""
    folder = tmp_path_factory.mktemp("unjudged")
    with serving(refusing) as stub:
        return folder, _run(folder, stub)


def _copy(unjudged: tuple[Path, list[Event]], to: Path) -> Path:
    shutil.copytree(unjudged[0], to)
    return to


def test_a_judge_that_cannot_be_had_costs_no_training_and_the_report_says_so(
    unjudged: tuple[Path, list[Event]],
) -> None:
    folder, events = unjudged
    assert events[-1]["kind"] == "finished"
    (warned,) = _warnings(events)
    assert "HTTP 401" in warned
    judged = _reported(events)
    assert (judged["results"], "HTTP 401" in judged["unavailable"]) == ([], True)
    assert "so the answers were not judged" in (folder / "out" / "export" / "README.md").read_text()
    assert KEY not in json.dumps(events)


def test_a_run_that_is_started_again_is_judged_and_a_judge_that_always_says_a_gives_fifty(
    tmp_path: Path, unjudged: tuple[Path, list[Event]]
) -> None:
    folder = _copy(unjudged, tmp_path / "run")
    with serving(always_a) as stub:
        events = _run(folder, stub, prompt_price=1.0, completion_price=2.0)
        assert len(stub.asked) == QUESTIONS
        again = _run(folder, stub)
        assert len(stub.asked) == QUESTIONS
    judged = _reported(events)
    assert (judged["model"], judged["unavailable"]) == ("judge-1", None)
    assert [(one["suite"], one["subject"]) for one in judged["results"]] == [
        ("colours", "teacher"),
        ("colours", "untouched"),
    ]
    for one in judged["results"]:
        assert (one["pairs"], one["valid"], one["wins"], one["ties"], one["losses"]) == (5, 5, 0, 5, 0)
        assert (one["win_rate"], one["disagreements"], one["errors"]) == (50.0, 5, {})
        assert (one["prompt_tokens"], one["completion_tokens"]) == (1000, 100)
        assert one["cost"] == pytest.approx(0.0012)
    assert _reported(again) == judged == checkpoint.read_json(folder / "out" / "report" / "report.json")["judged"]
    assert not _warnings(events)
    # Nothing was trained or asked of the models again.
    assert not [event for event in events if event["kind"] == "measured"]
    assert {event["name"] for event in events if event["kind"] == "checkpointed"} == {
        "judged-colours-teacher-00000000",
        "judged-colours-untouched-00000000",
        "report",
        "model",
    }
    card = (folder / "out" / "export" / "README.md").read_text()
    assert "| colours | the teacher | 50.0 | 0 | 5 (5 by disagreement) | 0 | 0 |" in card
    # What was shown: the first seed's answers, the student's first in one order and second in the other.
    said = {
        name: {
            line["text"]
            for line in checkpoint.read_jsonl(
                folder / "out" / "suites" / name / "colours" / "seed-20" / "answers.jsonl"
            )
        }
        for name in ("student", "teacher", "untouched")
    }
    shown = [asked.answers for asked in stub.asked]
    assert all(any(text.strip() in (one.strip() for one in said["student"]) for text in answers) for answers in shown)
    assert stub.asked[0].body["messages"][1]["content"].startswith("### User Question:\nName colour")


def test_verdicts_in_the_journal_are_not_asked_for_again(tmp_path: Path, unjudged: tuple[Path, list[Event]]) -> None:
    folder = _copy(unjudged, tmp_path / "run")

    def lines() -> int:
        return sum(len(path.read_text().splitlines()) for path in (folder / "out" / "judging").glob("*.jsonl"))

    with serving(always_a) as stub:
        with pytest.raises(StopRequested):
            _run(folder, stub, should_stop=lambda: len(stub.asked) > 3, concurrency=1)
        kept, asked = lines(), len(stub.asked)
        assert 3 <= kept <= asked < QUESTIONS
        judged = _reported(_run(folder, stub))
        assert len(stub.asked) - asked == QUESTIONS - kept
    assert [one["win_rate"] for one in judged["results"]] == [50.0, 50.0]
    assert lines() == 0


def test_sealed_verdicts_suffice_on_another_machine_and_another_judge_is_asked_anew(
    tmp_path: Path, unjudged: tuple[Path, list[Event]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "PART", 2)
    folder = _copy(unjudged, tmp_path / "run")
    second = folder / "out" / "judged" / "colours" / "teacher" / "00000002"

    def failing_after(asked: Asked, number: int) -> Reply:
        return always_a(asked, number) if number < 8 else refusing(asked, number)

    with serving(failing_after) as stub:
        events = _run(folder, stub, concurrency=1)
    assert second.exists()
    assert _reported(events)["results"] == []
    assert len(_warnings(events)) == 1
    shutil.rmtree(folder / "out" / "judging")
    with serving(always_a) as stub:
        assert [one["pairs"] for one in _reported(_run(folder, stub))["results"]] == [5, 5]
        assert len(stub.asked) == QUESTIONS - 8
    with serving(lambda _asked, _number: saying("no verdict")) as stub:
        judged = _reported(_run(folder, stub, model="judge-2"))
        assert len(stub.asked) == QUESTIONS
    assert judged["model"] == "judge-2"
    assert [(one["valid"], one["errors"], one["win_rate"]) for one in judged["results"]] == [
        (0, {"no_verdict": 5}, None)
    ] * 2
    # A whole report stays where a third judge cannot be had.
    with serving(refusing) as stub:
        events = _run(folder, stub, model="judge-3")
    assert len(_warnings(events)) == 1
    assert _reported(events) == judged


def test_without_a_judge_the_run_is_refused_before_anything_is_spent(tmp_path: Path) -> None:
    config = RunConfig.model_validate_json(_recipe(tmp_path).read_text())
    with pytest.raises(ConfigInvalid, match=r"evaluation\.judge: no judge is set here"):
        pipeline.run(
            config,
            inputs=replace(Inputs(), base=tmp_path),
            out=tmp_path / "out",
            emit=lambda _: None,
            should_stop=lambda: False,
        )
    assert not (tmp_path / "out" / "prepared").exists()


def test_of_several_processes_one_asks(tmp_path: Path) -> None:
    spec = _recipe(tmp_path, resources={"gpus": 2})
    with serving(always_a) as stub:
        judge = ("--judge-url", stub.url, "--judge-model", "judge-1")
        events = run_to_end(start(spec, tmp_path / "out", *judge, env={**os.environ, "CPD_JUDGE_API_KEY": KEY}))
        assert len(stub.asked) == QUESTIONS
        assert {asked.authorization for asked in stub.asked} == {f"Bearer {KEY}"}
    assert [one["win_rate"] for one in _reported(events)["results"]] == [50.0, 50.0]
    assert all(KEY.encode() not in content for content in contents(tmp_path / "out", "judged", "report").values())
