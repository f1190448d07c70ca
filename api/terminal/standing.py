"""Where a followed job stands, folded from its events. Pure: the progress display is a function of this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from api.terminal.figures import count, duration, number, size

SUBJECTS = {
    "teacher": "teacher",
    "untouched": "untouched student",
    "sft": "CE-only student",
    "kld": "KLD student",
    "student": "distilled student",
}
TRAINED = {"teacher": "teacher", "student": "student", "sft": "CE-only twin", "kld": "KLD twin"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a person wants to see of a job at this moment; None where it does not apply."""

    state: str = "queued"
    phase: str | None = None
    phase_number: int = 0
    phases: int = 0
    trained: str | None = None
    step: int = 0
    steps: int = 0
    epoch: int | None = None
    epochs: int | None = None
    subset_size: int | None = None
    samples: int | None = None
    loss: float | None = None
    temperature: float | None = None
    mixing: float | None = None
    tokens_per_s: float | None = None
    eta_s: float | None = None
    label: str | None = None

    @property
    def title(self) -> str:
        """`4/6 train · student`, or the state while nothing runs."""
        if self.state != "running" or self.phase is None:
            return self.state
        what = TRAINED.get(self.trained, self.trained) if self.trained else self.label
        return f"{self.phase_number}/{self.phases} {self.phase}" + (f" · {what}" if what else "")

    @property
    def details(self) -> str:
        """Epoch, loss, τ, t, k_e/N, tokens/s and ETA: those that are known."""
        share = self.subset_size is not None and self.samples is not None
        facts = (
            (self.epoch is not None, f"epoch {self.epoch}/{self.epochs}"),
            (self.loss is not None, f"loss {number(self.loss, 4)}"),
            (self.temperature is not None, f"τ {number(self.temperature, 2)}"),
            (self.mixing is not None, f"t {number(self.mixing, 2)}"),
            (share, f"k_e/N {count(self.subset_size)}/{count(self.samples)}"),
            (self.tokens_per_s is not None, f"{number(self.tokens_per_s, 0)} tokens/s"),
            (self.eta_s is not None, f"ETA {duration(self.eta_s)}"),
        )
        return "  ".join(text for known, text in facts if known)


def advance(before: Standing, kind: str, data: Mapping[str, Any]) -> Standing:
    """The standing after one event."""
    match kind:
        case "state_changed":
            return replace(Standing(), state=str(data["to"]))
        case "phase_started":
            return Standing(
                state=before.state, phase=data["phase"], phase_number=int(data["index"]) + 1, phases=int(data["total"])
            )
        case "progressed":
            return replace(before, trained=None, label=data["label"], step=int(data["done"]), steps=int(data["total"]))
        case "epoch_started":
            return _epoch(before, data)
        case "measured":
            return replace(
                before,
                trained=data["trained"],
                step=int(data["step"]),
                steps=int(data["total_steps"]),
                epoch=int(data["epoch"]),
                loss=data["values"].get("loss"),
                tokens_per_s=data.get("tokens_per_s"),
                eta_s=data.get("eta_s"),
            )
        case _:
            return before


def _epoch(before: Standing, data: Mapping[str, Any]) -> Standing:
    distilled = data["trained"] == "student"
    return replace(
        before,
        trained=data["trained"],
        label=None,
        epoch=int(data["epoch"]),
        epochs=int(data["epochs"]),
        subset_size=int(data["subset_size"]),
        samples=int(data["samples"]),
        temperature=data["temperature"] if distilled else None,
        mixing=data["mixing"] if distilled else None,
    )


def remark(kind: str, data: Mapping[str, Any]) -> str | None:
    """The line that stays on the screen for an event worth keeping; None for the rest."""
    match kind:
        case "state_changed":
            reason = f": {data['reason']}" if data.get("reason") else ""
            return f"job {data['to']}{reason}"
        case "phase_finished":
            reused = " (from an earlier attempt)" if data["reused"] else ""
            return f"{data['phase']} done in {duration(data['duration_s'])}{reused}"
        case "data_ready":
            return "data: " + ", ".join(f"{count(rows)} {split}" for split, rows in data["rows"].items()) + " rows"
        case "planned":
            return f"plan: {count(data['total_iterations'])} optimizer steps over {len(data['epochs'])} epochs"
        case "forecasted":
            return _forecast(data)
        case "profile_ready":
            return f"profile: {count(data['samples'])} samples, mean difficulty {number(data['mean'], 3)} ({data['difficulty']})"
        case "teacher_states_planned":
            return _teacher_once(data)
        case "recalled":
            return f"{data['what'].replace('_', ' ')}: taken over from another job"
        case "evaluated":
            return _scores(data)
        case "warned":
            return f"warning: {data['message']} ({data['code']})"
        case "exported":
            return f"exported {count(data['parameters'])} parameters ({', '.join(data['formats'])})"
        case "failed":
            return f"failed: {data['message']} ({data['code']})"
        case _:
            return None


def _teacher_once(data: Mapping[str, Any]) -> str:
    if data["kept"] == "off":
        return f"teacher: its states are not kept: {data['reason']}"
    ratio = data["operations_ratio"]
    saved = f", {number(ratio, 1)} × fewer operations in all" if ratio is not None else ""
    passes = f"{number(data['passes_without'], 1)} passes become {number(data['passes_with'], 0)}"
    return f"teacher: {size(data['states_bytes'])} of states ({data['kept']}): {passes}{saved}"


def _scores(data: Mapping[str, Any]) -> str:
    names = {"exact_match": "exact match", "rouge_l": "ROUGE-L", "ce": "CE"}
    scores = ", ".join(f"{names.get(name, name)} {number(value, 2)}" for name, value in data["metrics"].items())
    epoch = f" after epoch {data['epoch']}" if data.get("epoch") is not None else ""
    return f"{SUBJECTS.get(data['subject'], data['subject'])}{epoch} on {data['split']}: {scores}"


def _forecast(data: Mapping[str, Any]) -> str:
    least, most = duration(data["least_s"]), duration(data["most_s"])
    return (
        f"forecast: {duration(data['duration_s'])} in all (between {least} and {most}), {number(data['tokens_per_s'], 0)} tokens/s, "
        f"{size(data['memory_bytes'])} of memory"
    )
