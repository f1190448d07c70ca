"""What jobs of one machine make once and find: the tuned teacher, the untrained student's scores and answers."""

from __future__ import annotations

import json
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cpd_engine import pipeline
from cpd_engine.config import RunConfig
from cpd_engine.events import Event, to_dict
from cpd_engine.inputs import STATE_CACHE_BYTES, Inputs
from tests.learning.engine_runs import UNITS, contents, recipe, run_to_end, run_until, start

CHANGES: dict[str, Any] = {
    "student": {"from": "teacher", "drop_layers": 1},
    "epochs": 2,
    "evaluation": {"validation_rows": 0, "test_rows": 4, "generation": {"max_new_tokens": 4}},
}
Told = list[dict[str, Any]]


def told(config: RunConfig, out: Path, cache: Path | None, *, cache_bytes: int = STATE_CACHE_BYTES) -> Told:
    """What a run in this process says."""
    events: Told = []

    def hear(event: Event) -> None:
        events.append(json.loads(json.dumps(to_dict(event))))

    inputs = Inputs(state_cache=cache, state_cache_bytes=cache_bytes)
    pipeline.run(config, inputs=inputs, out=out, emit=hear, should_stop=lambda: False)
    return events


def configured(folder: Path, **changes: Any) -> RunConfig:
    return RunConfig.model_validate_json(recipe(folder, **(CHANGES | changes)).read_text())


def recalled(events: Told) -> list[str]:
    return [event["what"] for event in events if event["kind"] == "recalled"]


def steps(events: Told, trained: str) -> int:
    return sum(event["kind"] == "measured" and event["trained"] == trained for event in events)


def test_a_job_takes_over_what_another_has_made_and_ends_in_the_same_bits(tmp_path: Path) -> None:
    config = configured(tmp_path)
    alone = told(config, tmp_path / "alone", None)
    first = told(config, tmp_path / "first", tmp_path / "states")
    second = told(config, tmp_path / "second", tmp_path / "states")
    assert recalled(alone) == recalled(first) == []
    assert recalled(second) == ["tuned_teacher", "student_scores", "teacher_answers", "untouched_answers"]
    assert steps(first, "teacher") > 0 == steps(second, "teacher")
    labels = [event["label"] for event in second if event["kind"] == "progressed"]
    assert "difficulty by the untrained student" not in labels
    for out in ("first", "second"):
        assert contents(tmp_path / out, *UNITS) == contents(tmp_path / "alone", *UNITS)


def test_other_methods_and_seeds_share_what_is_before_them_and_another_teacher_nothing(tmp_path: Path) -> None:
    cache = tmp_path / "states"
    told(configured(tmp_path), tmp_path / "first", cache)
    method = told(configured(tmp_path, preset="kld", student_seed=5), tmp_path / "method", cache)
    assert recalled(method) == ["tuned_teacher", "student_scores", "teacher_answers", "untouched_answers"]
    longer = configured(tmp_path, teacher_sft={"epochs": 2, "optimizer": {"learning_rate": 0.003}})
    assert recalled(told(longer, tmp_path / "longer", cache)) == []
    off = configured(tmp_path, teacher={"tiny": "llama", "layers": 2, "hidden": 32, "heads": 2, "cache": "off"})
    assert recalled(told(off, tmp_path / "off", cache)) == []


def test_difficulty_by_entropy_and_by_answers_is_found_as_well(tmp_path: Path) -> None:
    for kind in ("entropy", "rouge_l"):
        config, cache = configured(tmp_path, difficulty=kind), tmp_path / f"states-{kind}"
        told(config, tmp_path / f"first-{kind}", cache)
        second = told(config, tmp_path / f"second-{kind}", cache)
        wanted = ["student_scores", *(["student_attempts"] if kind == "rouge_l" else [])]
        assert recalled(second)[1:-2] == wanted
        profiles = [contents(tmp_path / f"{out}-{kind}", "profile") for out in ("first", "second")]
        assert list(profiles[0].values()) == list(profiles[1].values())


def test_a_damaged_copy_is_made_again_and_no_room_ends_no_job(tmp_path: Path) -> None:
    config, cache = configured(tmp_path), tmp_path / "states"
    told(config, tmp_path / "first", cache)
    (scores,) = cache.glob("scores-*/columns.arrow")
    scores.unlink()
    scores.write_bytes(b"")
    second = told(config, tmp_path / "second", cache)
    assert "student_scores" not in recalled(second)
    assert "shared_work" in [event["code"] for event in second if event["kind"] == "warned"]
    assert "student_scores" in recalled(told(config, tmp_path / "third", cache))
    small = told(config, tmp_path / "small", tmp_path / "small-states", cache_bytes=9)
    assert "shared_work" in [event["code"] for event in small if event["kind"] == "warned"]
    assert small[-1]["kind"] == "finished"


def test_of_two_jobs_at_once_one_tunes_the_teacher_and_the_other_waits(tmp_path: Path) -> None:
    spec = recipe(tmp_path, **CHANGES)

    def process(out: str) -> subprocess.Popen[str]:
        return start(spec, tmp_path / out, "--state-cache", str(tmp_path / "states"))

    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda out: run_to_end(process(out)), ("one", "two")))
    assert sorted(steps(events, "teacher") > 0 for events in both) == [False, True]
    assert sorted("tuned_teacher" in recalled(events) for events in both) == [False, True]
    assert contents(tmp_path / "one", "trained") == contents(tmp_path / "two", "trained")


def test_a_job_that_dies_while_it_tunes_leaves_the_teacher_to_the_next(tmp_path: Path) -> None:
    spec, more = recipe(tmp_path, **CHANGES), ("--state-cache", str(tmp_path / "states"))

    def midway(event: dict[str, Any]) -> bool:
        return bool(event["kind"] == "measured" and event["trained"] == "teacher" and event["step"] == 4)

    run_until(start(spec, tmp_path / "one", *more), midway, signal.SIGKILL)
    second = run_to_end(start(spec, tmp_path / "two", *more))
    assert steps(second, "teacher") > 4
    resumed = run_to_end(start(spec, tmp_path / "one", *more))
    assert recalled(resumed)[0] == "tuned_teacher"
    assert contents(tmp_path / "one", *UNITS) == contents(tmp_path / "two", *UNITS)
