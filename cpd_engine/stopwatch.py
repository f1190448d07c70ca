"""Pieces of work, timed on the wall and by the processor, with the device waited for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import torch

from cpd_engine.timing import Amount, Line, Seconds, Timed, fit
from cpd_engine.workload import Kind

Result = TypeVar("Result")


class Stopwatch:
    """Notes what each kind of work takes. The first piece of each kind is a rehearsal: it warms up and is not counted."""

    def __init__(self, device: torch.device, clock: Callable[[], float]) -> None:
        self._device = device
        self._clock = clock
        self._timed: dict[Kind, list[Timed]] = {}

    def time(self, kind: Kind, amount: Amount, work: Callable[[], Result]) -> Result:
        """Do the work and note what it took."""
        began = self.now()
        result = work()
        self._timed.setdefault(kind, []).append(Timed(amount=amount, took=self.now() - began))
        return result

    def now(self) -> Seconds:
        """Both clocks, once the device has done what it was told to do."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return Seconds(wall_s=self._clock(), cpu_s=time.process_time())

    def lines(self) -> dict[Kind, Line]:
        """What each kind of work takes. A kind that was done only once is told by its rehearsal."""
        return {kind: fit(timed[1:] or timed) for kind, timed in self._timed.items()}
