"""What it takes to seal weights where a run seals its own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from torch import Tensor

from cpd_engine import checkpoint
from cpd_engine.stopwatch import Stopwatch
from cpd_engine.timing import Amount
from cpd_engine.workload import WEIGHT_BYTES

# At most so much is written for the sake of timing it.
_BYTES = 2**26


def time_sealing(out: Path, watch: Stopwatch, weights: Mapping[str, Tensor]) -> int:
    """Time the sealing of some of the weights, and of nothing, under `out`; the bytes of them all. Nothing is left there."""
    some = _first(weights, _BYTES)
    for held in (some, {}, some):
        watch.time("seal", Amount(pieces=1, units=size_bytes(held)), partial(_seal_and_discard, out / "probe", held))
    return size_bytes(weights)


def size_bytes(weights: Mapping[str, Tensor]) -> int:
    """Of float32 weights."""
    return sum(weight.numel() for weight in weights.values()) * WEIGHT_BYTES


def _first(weights: Mapping[str, Tensor], limit_bytes: int) -> dict[str, Tensor]:
    """The first weights until they hold so many bytes."""
    taken: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if size_bytes(taken) >= limit_bytes:
            break
        taken[name] = weight
    return taken


def _seal_and_discard(path: Path, weights: Mapping[str, Tensor]) -> None:
    with checkpoint.sealing(path) as draft:
        checkpoint.write_tensors(draft / "weights.safetensors", weights)
    checkpoint.discard(path)
