"""What a process spent between two moments: CPU seconds, wall seconds, and memory at its peak above where it started. Linux only."""

from __future__ import annotations

import ctypes
import gc
import resource
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

_GEMM = 1536
_GEMM_REPEATS = 6
_SKETCH_WIDTH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """`cpu_s` is user and system time of all threads, `system_s` the system's part of it, such as filling fresh memory with zeros.

    `added_bytes`: the peak of resident memory above the level at the start.
    """

    cpu_s: float
    system_s: float
    wall_s: float
    added_bytes: int


class Meter:
    """Started once, after a warm-up step: models, optimizer state and loaded libraries then belong to the level, a step's work does not."""

    def __init__(self) -> None:
        self.cost: Cost | None = None
        self._level = 0
        self._wall = 0.0
        self._cpu = 0.0
        self._system = 0.0

    def start(self) -> None:
        """Give freed memory back to the system, forget the former peak, and begin."""
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        self._level = resident_bytes()
        # 5 resets the peak (VmHWM) to what is resident now: proc(5).
        Path("/proc/self/clear_refs").write_text("5")
        self._system = _system_s()
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        """Close the measurement that `start` began."""
        cpu_s, wall_s = time.process_time() - self._cpu, time.perf_counter() - self._wall
        system_s = _system_s() - self._system
        self.cost = Cost(cpu_s=cpu_s, system_s=system_s, wall_s=wall_s, added_bytes=peak_bytes() - self._level)


def _system_s() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_stime


def resident_bytes() -> int:
    """Resident memory of this process."""
    return _status("VmRSS")


def peak_bytes() -> int:
    """Highest resident memory of this process since the last reset."""
    return _status("VmHWM")


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{field}:")).split()[1])


def gemm_flops_per_cpu_s() -> float:
    """The best rate of float32 matrix products of this process at its number of threads, in operations per second of one thread."""
    left, right = torch.randn(_GEMM, _GEMM), torch.randn(_GEMM, _GEMM)
    out = torch.empty(_GEMM, _GEMM)
    rates = []
    for _ in range(_GEMM_REPEATS):
        started = time.process_time()
        torch.mm(left, right, out=out)
        rates.append(2 * _GEMM**3 / (time.process_time() - started))
    return max(rates)


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the trained weights by name."""
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def sketch(before: dict[str, Tensor], after: dict[str, Tensor]) -> tuple[float, ...]:
    """A checksum of what training added to the weights: 64 sums with fixed random signs, float64.

    ‖sketch(a) − sketch(b)‖ / ‖sketch(a)‖ estimates ‖a − b‖ / ‖a‖ of the whole updates a and b.
    """
    generator = torch.Generator().manual_seed(0)
    sums = torch.zeros(_SKETCH_WIDTH, dtype=torch.float64)
    for name in sorted(before):
        added = (after[name] - before[name]).double().flatten()
        signs = torch.randint(0, 2, added.shape, generator=generator, dtype=torch.int8) * 2 - 1
        padded = torch.nn.functional.pad(added * signs, (0, -len(added) % _SKETCH_WIDTH))
        sums += padded.view(-1, _SKETCH_WIDTH).sum(dim=0)
    return tuple(sums.tolist())
