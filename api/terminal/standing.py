"""Where a followed job stands, folded from its events. Pure: the progress display is a function of this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from api.quantities import count, duration, number
from api.remarks import TRAINED


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
