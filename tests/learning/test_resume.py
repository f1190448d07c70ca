"""A run that was killed, at whatever moment, ends in the bits of one that was not."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from cpd_engine import pipeline
from cpd_engine.config import RunConfig
from cpd_engine.errors import StopRequested
from cpd_engine.events import Event as EngineEvent
from cpd_engine.events import to_dict
from cpd_engine.inputs import Inputs
from tests.learning.engine_runs import (
    UNITS,
    Event,
    contents,
    evaluated,
    measured,
    recipe,
    run_to_end,
    run_until,
    start,
)

LORA = {"rank": 4, "alpha": 8.0, "dropout": 0.2}


def _is(kind: str, **wanted: Any) -> Callable[[Event], bool]:
    return lambda event: event["kind"] == kind and all(event[name] == value for name, value in wanted.items())


def _assert_same(out: Path, events: list[Event], whole: Path, whole_events: list[Event]) -> None:
    assert measured(events) == measured(whole_events)
    assert evaluated(events) == evaluated(whole_events)
    assert contents(out, *UNITS) == contents(whole, *UNITS)


def test_a_run_killed_in_every_phase_ends_like_an_unbroken_one(tmp_path: Path) -> None:
    spec = recipe(tmp_path)
    whole_events = run_to_end(start(spec, tmp_path / "whole"))
    out = tmp_path / "broken"
    moments = [
        _is("progressed", phase="prepare"),
        _is("measured", trained="teacher", step=6),
        _is("progressed", phase="profile"),
        _is("measured", trained="student", step=9),
        _is("progressed", phase="train", label="validation of sft after epoch 1"),
        _is("evaluated", subject="untouched", split="test"),
    ]
    events = []
    for moment in moments:
        process = start(spec, out)
        events += run_until(process, moment, signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
    last = run_to_end(start(spec, out))
    _assert_same(out, events + last, tmp_path / "whole", whole_events)
    reused = {event["phase"] for event in last if event["kind"] == "phase_finished" and event["reused"]}
    assert reused == {"prepare", "teacher_sft", "profile", "train"}


def test_sigterm_stops_with_a_checkpoint_and_the_run_goes_on_from_there(tmp_path: Path) -> None:
    spec = recipe(tmp_path, evaluation={"validation_metric": "ce", "validation_rows": 4, "test_rows": 2})
    whole_events = run_to_end(start(spec, tmp_path / "whole"))
    out = tmp_path / "stopped"
    process = start(spec, out)
    events = run_until(process, _is("measured", trained="student", step=5), signal.SIGTERM)
    assert process.returncode == 10
    assert events[-1] == {"phase": "train", "kind": "stopped"}
    assert events[-2]["kind"] == "checkpointed"
    assert events[-2]["step"] == max(step for trained, step in measured(events) if trained == "student")
    _assert_same(out, events + run_to_end(start(spec, out)), tmp_path / "whole", whole_events)


def test_a_killed_run_that_ranks_its_samples_anew_ends_like_an_unbroken_one(tmp_path: Path) -> None:
    spec = recipe(tmp_path, refresh_every=1, teacher_sft=None, evaluation={"validation_rows": 0, "test_rows": 2})
    whole_events = run_to_end(start(spec, tmp_path / "whole"))
    refreshed = [event for event in whole_events if event["kind"] == "ranking_refreshed"]
    assert [event["epoch"] for event in refreshed] == [2, 3]
    assert all(-1.0 <= event["spearman"] <= 1.0 and 0.0 < event["overlap"] <= 1.0 for event in refreshed)
    assert refreshed[-1]["spearman"] < 1.0
    out = tmp_path / "broken"
    events = run_until(start(spec, out), _is("measured", trained="student", step=7), signal.SIGKILL)
    events += run_to_end(start(spec, out))
    assert measured(events) == measured(whole_events)
    assert contents(out, "trained", "export") == contents(tmp_path / "whole", "trained", "export")


class _Killed(BaseException):
    """Stands for a kill: nothing in the engine may answer to it."""


def _in_process(config: RunConfig, out: Path, *, die_at: int | None = None) -> list[Event]:
    events: list[Event] = []

    def emit(event: EngineEvent) -> None:
        events.append(json.loads(json.dumps(to_dict(event))))
        if len(events) == die_at:
            raise _Killed

    with suppress(_Killed):
        pipeline.run(config, inputs=Inputs(), out=out, emit=emit, should_stop=lambda: False)
    return events


def test_lora_with_dropout_dying_every_few_events_ends_like_an_unbroken_run(tmp_path: Path) -> None:
    spec = json.loads(recipe(tmp_path, lora=LORA, epochs=2, checkpoints={"every_steps": 2, "keep": 1}).read_text())
    config = RunConfig.model_validate_json(json.dumps(spec))
    whole_events = _in_process(config, tmp_path / "whole")
    out = tmp_path / "broken"
    events: list[Event] = []
    # Each process lives a little longer than the one before, as it first tells again what is sealed already.
    for life in range(1, 200):
        events += _in_process(config, out, die_at=8 + 2 * life)
        if events[-1]["kind"] == "finished":
            break
    assert events[-1]["kind"] == "finished"
    _assert_same(out, events, tmp_path / "whole", whole_events)


def test_a_corrupt_newest_state_or_best_is_passed_over_with_a_warning(tmp_path: Path) -> None:
    spec = json.loads(recipe(tmp_path, teacher_sft=None, epochs=2).read_text())
    config = RunConfig.model_validate_json(json.dumps(spec))
    whole_events = _in_process(config, tmp_path / "whole")
    dying = [event["kind"] == "measured" and event["step"] == 10 for event in whole_events].index(True) + 1
    for corrupted in ("step-000008/weights.safetensors", "step-000008/state.json", "best/weights.safetensors"):
        out = tmp_path / corrupted.replace("/", "-")
        events = _in_process(config, out, die_at=dying)
        file = out / "train" / corrupted
        content = bytearray(file.read_bytes())
        content[-2] ^= 1
        file.write_bytes(bytes(content))
        resumed = _in_process(config, out)
        assert any(event["kind"] == "warned" and event["code"] == "checkpoint_corrupt" for event in resumed)
        _assert_same(out, events + resumed, tmp_path / "whole", whole_events)


def test_a_stop_in_the_middle_of_a_validation_is_obeyed_and_resumed(tmp_path: Path) -> None:
    spec = json.loads(recipe(tmp_path, teacher_sft=None, epochs=2).read_text())
    config = RunConfig.model_validate_json(json.dumps(spec))
    whole_events = _in_process(config, tmp_path / "whole")
    events: list[Event] = []
    out = tmp_path / "stopped"

    def emit(event: EngineEvent) -> None:
        events.append(json.loads(json.dumps(to_dict(event))))

    def in_validation() -> bool:
        return bool(events[-1]["kind"] == "progressed" and events[-1]["phase"] == "train")

    with pytest.raises(StopRequested):
        pipeline.run(config, inputs=Inputs(), out=out, emit=emit, should_stop=in_validation)
    assert events[-1]["kind"] == "stopped"
    _assert_same(out, events + _in_process(config, out), tmp_path / "whole", whole_events)
