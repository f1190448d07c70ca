"""Events as progress and series."""

from __future__ import annotations

from typing import Any

from api.events.queries import Point
from cpd_engine.events import EpochStarted, Evaluated, Event, Measured, PhaseStarted, Progressed, Trained
from worker.progress import advance, points


def folded(*events: Event) -> dict[str, Any]:
    progress: dict[str, Any] = {}
    for event in events:
        progress = advance(progress, event)
    return progress


def epoch(trained: Trained, number: int) -> EpochStarted:
    return EpochStarted(
        trained=trained, epoch=number, epochs=4, subset_size=80, samples=100, iterations=10,
        temperature=1.5, mixing=0.25, alpha=0.3,
    )  # fmt: skip


def measured(trained: Trained, step: int) -> Measured:
    return Measured(
        trained=trained, step=step, total_steps=40, epoch=1, values={"loss": 2.0, "tokens": 64.0},
        tokens_per_s=900.0, step_s=0.5, eta_s=12.0, memory_bytes=0,
    )  # fmt: skip


PHASE = PhaseStarted(phase="train", index=3, total=6)


def test_a_step_shows_where_training_stands() -> None:
    assert folded(PHASE, epoch("student", 2), measured("student", 11)) == {
        "phase_index": 3, "phases": 6, "trained": "student", "epoch": 1, "epochs": 4, "subset_size": 80, "samples": 100,
        "temperature": 1.5, "mixing": 0.25, "step": 11, "total_steps": 40, "loss": 2.0, "tokens_per_s": 900.0, "eta_s": 12.0,
    }  # fmt: skip


def test_a_new_epoch_of_the_same_model_keeps_the_step_and_another_model_starts_anew() -> None:
    before = (PHASE, epoch("student", 1), measured("student", 10))
    assert folded(*before, epoch("student", 2))["step"] == 10
    assert "step" not in folded(*before, epoch("sft", 1))


def test_counted_work_shows_until_training_goes_on() -> None:
    counted = Progressed(phase="train", label="answers", done=3, total=9)
    assert folded(PHASE, counted) == {"phase_index": 3, "phases": 6, "label": "answers", "done": 3, "total": 9}
    assert "label" not in folded(PHASE, counted, measured("student", 1))


def test_a_new_phase_forgets_the_last_ones_progress() -> None:
    assert folded(PHASE, measured("student", 1), PhaseStarted(phase="evaluate", index=4, total=6)) == {
        "phase_index": 4,
        "phases": 6,
    }


def test_each_value_of_a_step_is_a_point() -> None:
    assert points(measured("teacher", 7)) == [
        Point(name="teacher/loss", step=7, value=2.0, tokens=64),
        Point(name="teacher/tokens", step=7, value=64.0, tokens=64),
        Point(name="teacher/tokens_per_s", step=7, value=900.0, tokens=64),
        Point(name="teacher/step_s", step=7, value=0.5, tokens=64),
        Point(name="teacher/memory_bytes", step=7, value=0.0, tokens=64),
    ]


def test_scores_are_points_by_epoch_and_those_of_a_finished_model_are_none() -> None:
    scores = Evaluated(subject="student", split="validation", rows=5, metrics={"rouge_l": 31.0}, epoch=2, step=400)
    assert points(scores) == [Point(name="student/validation/rouge_l", step=2, value=31.0)]
    assert points(Evaluated(subject="student", split="test", rows=5, metrics={"rouge_l": 31.0})) == []
    assert points(PHASE) == []
