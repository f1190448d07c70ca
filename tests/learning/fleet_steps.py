"""What test_fleet.py compares: the same steps taken by one process and, as a program under two ranks, by a fleet.

`python -m tests.learning.fleet_steps FOLDER` with the environment that torchrun gives; rank 0 leaves FOLDER/found.json.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cpd_engine.config import LoraSpec, OptimizerSpec
from cpd_engine.course import Turn
from cpd_engine.data.batches import Batch
from cpd_engine.errors import OutOfDeviceMemory, StopRequested
from cpd_engine.events import EpochPlan
from cpd_engine.fleet import ALONE, Fleet, joined, place
from cpd_engine.keeper import Keeper, Place
from cpd_engine.learner import Learner
from cpd_engine.models.lora import attach_lora
from cpd_engine.objective import Objective, Taught
from cpd_engine.scoring import cross_entropies
from cpd_engine.teacher import Teacher
from tests.learning.small_models import CPU, decoder, samples

# Some with less samples than ranks, some with an odd one out; lengths and supervised tokens differ throughout.
SIZES = (5, 1, 4, 3, 1, 6, 2, 7, 1, 3)
SAVED = 5
TRAININGS: dict[str, dict[str, Any]] = {
    "untied": {"kind": "llama", "layers": 2},
    "tied": {"kind": "gpt2", "layers": 2},
    "lora, recomputed": {"kind": "llama", "layers": 2, "lora": True, "gradient_checkpointing": True},
}
_KD = Objective(divergence="pmtd", alpha=0.3, temperature=1.5, mixing=0.4)
_EPOCH = EpochPlan(
    epoch=1, subset_size=8, target=None, iterations=1, visits=8, temperature=1.5, mixing=0.4, alpha=0.3, dead=False
)


def turns() -> list[Turn]:
    """Ten steps over batches of very different sizes."""
    known = samples(sum(SIZES))
    found: list[Turn] = []
    for size in SIZES:
        at = sum(SIZES[: len(found)])
        chosen = np.arange(at, at + size)
        turn = Turn(
            epoch=_EPOCH,
            index=0,
            indices=chosen,
            samples=[known[i] for i in chosen],
            objective=_KD,
            learning_rate=1e-2,
        )
        found.append(turn)
    return found


def learner(
    folder: Path,
    fleet: Fleet = ALONE,
    *,
    kind: str,
    layers: int,
    lora: bool = False,
    gradient_checkpointing: bool = False,
    sharded: bool = False,
) -> Learner:
    """A student with several micro-batches a step and a norm that is always clipped."""
    student = decoder(folder / f"rank-{fleet.rank}", kind=kind, layers=layers)
    if lora:
        student = attach_lora(student, LoraSpec(rank=4), seed=3)
    # With a small eps AdamW makes whole steps of what rounding leaves of a gradient that is zero, such as that of a key's bias.
    spec = OptimizerSpec(batch_size=8, micro_batch_size=2, max_grad_norm=0.5, eps=1e-3)
    runtime = replace(CPU, fleet=fleet)
    return Learner(student, spec=spec, runtime=runtime, gradient_checkpointing=gradient_checkpointing, sharded=sharded)


class Narrow(Teacher):
    """A teacher for whom more tokens at a time than the longest sample has are too much."""

    def taught(self, batch: Batch, temperature: float) -> Taught:
        if batch.tokens > max(len(sample.input_ids) for turn in turns() for sample in turn.samples):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().taught(batch, temperature)


def steps(learning: Learner, folder: Path, chosen: Sequence[Turn]) -> list[dict[str, Any]]:
    """Take them; the values of each."""
    mentor = _mentor(folder / f"mentor-{os.environ.get('RANK')}")
    return [asdict(learning.learn(turn, mentor)) for turn in chosen]


def short_of_memory(folder: Path, fleet: Fleet) -> dict[str, Any]:
    """The steps of "untied", where all ranks but the first have no room for two long samples."""
    learning = learner(folder, fleet, **TRAININGS["untied"])
    kind = Teacher if fleet.leads else Narrow
    mentor = kind(decoder(folder / f"mentor-{fleet.rank}", layers=2, hidden=48, seed=5), CPU)
    found = [asdict(learning.learn(turn, mentor)) for turn in turns()]
    halved = fleet.gathered(learning.micro_batch_tokens)
    return {"steps": found, "weights": weights(learning), "micro_batch_tokens": halved}


def short_together(folder: Path, fleet: Fleet) -> str:
    """What a sharded training says whose ranks all have no room for two long samples, in a pass that each of them has joined."""
    learning = learner(folder, fleet, **TRAININGS["untied"], sharded=True)
    mentor = Narrow(decoder(folder / f"mentor-{fleet.rank}", layers=2, hidden=48, seed=5), CPU)
    try:
        learning.learn(turns()[0], mentor)
    except OutOfDeviceMemory as error:
        return str(error)
    return "nothing"


@cache
def _mentor(folder: Path) -> Teacher:
    return Teacher(decoder(folder, layers=2, hidden=48, seed=5), CPU)


def keeper(folder: Path, name: str, fleet: Fleet = ALONE) -> Keeper:
    """What saves and restores the training of that name."""
    where = Place(out=folder, folder=name, prefix="", every=SAVED, keep=2)
    return Keeper(where, metric="ce", emit=lambda _: None, fleet=fleet)


def weights(learning: Learner) -> dict[str, list[float]]:
    """All that is trained, whole."""
    return {name: tensor.flatten().tolist() for name, tensor in learning.weights().items()}


def train(folder: Path, name: str, fleet: Fleet, **options: Any) -> dict[str, Any]:
    """All steps in one go, with the state sealed on the way."""
    learning, keeping = learner(folder, fleet, **options), keeper(folder, name, fleet)
    first = steps(learning, folder, turns()[:SAVED])
    keeping.save(learning, epoch=1)
    return {"steps": first + steps(learning, folder, turns()[SAVED:]), "weights": weights(learning)}


def resume(folder: Path, name: str, fleet: Fleet, **options: Any) -> dict[str, Any]:
    """The steps after the state of that name."""
    learning = learner(folder, fleet, **options)
    assert keeper(folder, name, fleet).resume(learning)
    assert learning.step == SAVED
    return {"steps": steps(learning, folder, turns()[SAVED:]), "weights": weights(learning)}


def _stop_unless(leads: bool) -> None:
    if not leads:
        raise StopRequested


def agreements(folder: Path, fleet: Fleet) -> dict[str, Any]:
    """What the ranks tell each other, as each of them has understood it."""
    student = decoder(folder / f"rank-{fleet.rank}")
    scored = cross_entropies(student, samples(7), runtime=replace(CPU, fleet=fleet))
    broken_off = False
    try:
        with fleet.apart():
            _stop_unless(fleet.leads)
    except StopRequested:
        broken_off = True
    told = {
        "asked": fleet.agree(not fleet.leads),
        "nobody": fleet.agree(False),
        "told": fleet.told(f"by {fleet.rank}"),
        "broken_off": broken_off,
        "scored": scored.sums.tolist(),
    }
    return {"by_rank": fleet.gathered(told)}


def main(folder: Path) -> None:
    """Every training in both forms, with states of one process resumed by two."""
    torch.set_num_threads(1)
    fleet = place(os.environ)
    with joined(fleet):
        found: dict[str, Any] = {
            "agreements": agreements(folder, fleet),
            "short of memory": short_of_memory(folder, fleet),
            "short together": short_together(folder, fleet),
        }
        for name, options in TRAININGS.items():
            for form in ("replicated", "sharded"):
                more = options | {"sharded": form == "sharded"}
                found[f"{name}/{form}"] = train(folder, f"{name}-{form}", fleet, **more)
                found[f"{name}/{form}/resumed"] = resume(folder, f"{name}-alone", fleet, **more)
        if fleet.leads:
            (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
