"""What an event means for the job's row and its metric series. Pure."""

from __future__ import annotations

from typing import Any

from api.events.queries import Point
from cpd_engine.events import EpochStarted, Evaluated, Event, Measured, PhaseStarted, Progressed

_OF_AN_EPOCH = ("epoch", "epochs", "subset_size", "samples", "temperature", "mixing")
_OF_A_STEP = ("step", "total_steps", "loss", "tokens_per_s", "eta_s")


def points(event: Event) -> list[Point]:
    """`<trained>/<value>` by optimizer step for a measurement, `<subject>/<split>/<metric>` by epoch for scores."""
    match event:
        case Measured(trained=trained, step=step, values=values):
            tokens = int(values["tokens"]) if "tokens" in values else None
            of_process = {
                "tokens_per_s": event.tokens_per_s,
                "step_s": event.step_s,
                "memory_bytes": float(event.memory_bytes),
            }
            named = values | of_process
            return [
                Point(name=f"{trained}/{key}", step=step, value=value, tokens=tokens) for key, value in named.items()
            ]
        case Evaluated(subject=subject, split=split, metrics=metrics):
            at = event.epoch if event.epoch is not None else event.step
            # Scores of a finished model belong to no epoch; they are events, not a series.
            if at is None:
                return []
            return [Point(name=f"{subject}/{split}/{key}", step=at, value=value) for key, value in metrics.items()]
        case _:
            return []


def advance(progress: dict[str, Any], event: Event) -> dict[str, Any]:
    """The job's progress after `event`: the wire's `progress` object, without the fields that do not apply."""
    match event:
        case PhaseStarted(index=index, total=total):
            return {"phase_index": index, "phases": total}
        case Progressed(label=label, done=done, total=total):
            return progress | {"label": label, "done": done, "total": total}
        case EpochStarted(trained=trained):
            # A second model's training starts its own count of steps.
            kept = progress if progress.get("trained") == trained else _without(progress, *_OF_A_STEP)
            return kept | {"trained": trained} | {name: getattr(event, name) for name in _OF_AN_EPOCH}
        case Measured():
            return _without(progress, "label", "done", "total") | {
                "trained": event.trained,
                "step": event.step,
                "total_steps": event.total_steps,
                "epoch": event.epoch,
                "loss": event.values.get("loss"),
                "tokens_per_s": event.tokens_per_s,
                "eta_s": event.eta_s,
            }
        case _:
            return progress


def _without(progress: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in progress.items() if name not in names}
