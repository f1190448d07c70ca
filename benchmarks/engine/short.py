"""The short form for CI: small pairs, no peer, and a verdict on the ratios that are kept in short.json.

Base and engine take turns in one process and the least CPU time of each counts, since a neighbour's work makes a step slower and never
faster. It stops as soon as every ratio holds and gives up only after the last round.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from benchmarks.engine.models import Pair, Shape, build
from benchmarks.engine.setting import CPD, OPTIMIZER, Setting
from benchmarks.engine.variants import cpd, padded, scoring
from cpd_engine.learner import Learner
from cpd_engine.runtime import Runtime
from cpd_engine.scoring import cross_entropies
from cpd_engine.teacher import Teacher

KEPT = Path(__file__).with_name("short.json")
# How far a ratio may lie under the kept one: on the processor it was kept for, and on one of which nothing is kept, whose caches and
# vector units differ.
TOLERANCE = 0.15
TOLERANCE_ELSEWHERE = 0.4
LEAST_ROUNDS = 2
MOST_ROUNDS = 8
RECORDINGS = 3
# The engine's way and the plain one that it is compared with.
CONTESTS = {"cpd": "padded", "cpd_cached": "padded", "score_cpd": "score_padded"}

PAIR = Pair(
    name="short",
    family="gpt2",
    vocabulary=8_192,
    teacher=Shape(layers=4, hidden=256),
    student=Shape(layers=2, hidden=128),
    max_length=256,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The ratios of one machine: least CPU seconds of the plain way over those of the engine's."""

    machine: str
    commit: str
    ratios: dict[str, float]


def works() -> dict[str, Callable[[], object]]:
    """One optimizer step, plainly, by the engine and with a cached teacher, and one pass of scoring: on the same eight samples."""
    setting = Setting(pair=PAIR, order="random", steps=1, threads=1)
    (samples,) = setting.batches()
    runtime = Runtime(device=torch.device("cpu"), precision="fp32", threads=1)
    teacher, scored = build(PAIR, "teacher", setting.seed), build(PAIR, "student", setting.seed)
    plain, ours = build(PAIR, "student", setting.seed), build(PAIR, "student", setting.seed)
    optimizer = padded.adamw(plain.model, OPTIMIZER)
    learner, taught = Learner(ours, spec=OPTIMIZER, runtime=runtime), Teacher(teacher, runtime)
    known, turn = cpd.kept_teacher(teacher, samples, runtime), cpd.turn(samples, CPD)
    return {
        "padded": lambda: padded.step(plain.model, teacher.model, optimizer, samples, CPD),
        "cpd": lambda: learner.learn(turn, taught),
        "cpd_cached": lambda: learner.learn(turn, known),
        "score_padded": lambda: scoring.batch_scores(scored.model, samples),
        "score_cpd": lambda: cross_entropies(scored, samples, runtime=runtime),
    }


def least_ratios(
    held: Mapping[str, Callable[[], object]],
    wanted: Mapping[str, float],
    clock: Callable[[], float] = time.process_time,
) -> dict[str, float]:
    """Least CPU seconds of the plain way over those of the engine's, after as many rounds as it takes to reach what is wanted."""
    least = dict.fromkeys(held, math.inf)
    ratios: dict[str, float] = {}
    # One round more, the first, warms up and counts nothing.
    for number in range(MOST_ROUNDS + 1):
        for name, work in held.items():
            started = clock()
            work()
            if number > 0:
                least[name] = min(least[name], clock() - started)
        if number >= LEAST_ROUNDS:
            ratios = {ours: least[plain] / least[ours] for ours, plain in CONTESTS.items()}
            if not fallen(ratios, wanted):
                break
    return ratios


def recorded_ratios(held: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """The lowest of several ratios, each after all rounds: what is kept must be reached again on a day that is no better."""
    found = [least_ratios(held, dict.fromkeys(CONTESTS, math.inf)) for _ in range(RECORDINGS)]
    return {name: round(min(ratios[name] for ratios in found), 2) for name in CONTESTS}


def fallen(found: Mapping[str, float], wanted: Mapping[str, float]) -> dict[str, str]:
    """What is to be said of each ratio that is lower than it must be; a ratio that nobody kept is not judged."""
    return {
        name: f"{name}: the lead over the plain way has shrunk to {ratio:.2f}, at least {wanted[name]:.2f} is wanted"
        for name, ratio in found.items()
        if name in wanted and ratio < wanted[name]
    }


def wanted_here(kept: Sequence[Kept], machine: str) -> dict[str, float]:
    """The ratios that must be reached on this processor; where nothing is kept of it, less than the lowest that is."""
    own = [one for one in kept if one.machine == machine]
    tolerance = TOLERANCE if own else TOLERANCE_ELSEWHERE
    return {name: (1.0 - tolerance) * min(one.ratios[name] for one in own or kept) for name in CONTESTS}


def read() -> list[Kept]:
    """What is kept in the repository, one a processor."""
    return [Kept(**one) for one in json.loads(KEPT.read_text(encoding="utf-8"))]


def write(found: Kept) -> None:
    """Keep it in place of what was kept of that processor."""
    kept = [found, *(one for one in read() if one.machine != found.machine)]
    text = json.dumps([asdict(one) for one in sorted(kept, key=lambda one: one.machine)], indent=1)
    KEPT.write_text(text + "\n", encoding="utf-8")
