"""A whole calibrated job of 20 epochs through the pipeline, with the teacher's states kept and without: what a user waits for.

The arithmetic beside it: a visited sample costs three passes of the student, one of both heads' teacher side, and, unless its states are
kept, one of the teacher's body; a kept one costs that body once.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.engine.arithmetic import body_flops, head_flops
from benchmarks.engine.models import Pair, Shape
from benchmarks.engine.workload import lengths
from cpd_engine import pipeline
from cpd_engine.config import RunConfig
from cpd_engine.data.encode import PAPER_TEMPLATE
from cpd_engine.events import DataReady, Event, Measured, PhaseFinished, PhaseStarted, Planned
from cpd_engine.inputs import Inputs
from cpd_engine.repro import numpy_generator

ROWS = 96
TEST_ROWS = 4
# `calibrated` sees a sample some six times here: fresh weights find all rows about equally hard, and it trains on one batch for long.
CURRICULA = ("calibrated", "calibrated_affine")
PAIR = Pair(
    name="job",
    family="gpt2",
    vocabulary=2_048,
    teacher=Shape(layers=6, hidden=256),
    student=Shape(layers=3, hidden=128),
    max_length=256,
)
# Words of three syllables, and those of the template, all of which a tokenizer trained on such rows has whole.
_SYLLABLES = ("ba", "du", "fe", "gi", "ko", "lu", "ma", "ni", "po", "ra")
_WORDS = 200
# What the template adds to a prompt, in tokens.
_TEMPLATE_TOKENS = 45


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCost:
    """CPU seconds of a run by phase, and how much it trained. `samples` were trained on, `visits` times in all."""

    cache: str
    curriculum: str
    cpu_s: dict[str, float]
    samples: int
    prompt_tokens: int
    visits: int
    visited_supervised: int

    @property
    def total_cpu_s(self) -> float:
        """Of all phases."""
        return sum(self.cpu_s.values())

    def useful_flops(self, *, kept: bool) -> float:
        """Of training, with the teacher's body once a visit, or once a sample."""
        prompt = self.prompt_tokens / self.samples
        visited = self.visits * prompt + self.visited_supervised
        mean = [round(visited / self.visits)]
        student = 3 * (
            self.visits * body_flops(PAIR, PAIR.student, mean) + head_flops(PAIR, PAIR.student, self.visited_supervised)
        )
        bodies = self.samples if kept else self.visits
        return (
            student
            + head_flops(PAIR, PAIR.teacher, self.visited_supervised)
            + bodies * body_flops(PAIR, PAIR.teacher, mean)
        )


@dataclass(slots=True)
class _Watch:
    """Listens to a run and reads the CPU clock at the borders of its phases."""

    clock: Callable[[], float]
    cpu_s: dict[str, float] = field(default_factory=dict)
    ready: DataReady | None = None
    planned: Planned | None = None
    visited_supervised: int = 0
    _began: float = 0.0

    def __call__(self, event: Event) -> None:
        match event:
            case PhaseStarted():
                self._began = self.clock()
            case PhaseFinished(phase=phase):
                self.cpu_s[phase] = self.clock() - self._began
            case DataReady():
                self.ready = event
            case Planned():
                self.planned = event
            case Measured(values=values):
                self.visited_supervised += int(values["tokens"])


def run(cache: str, folder: Path, *, curriculum: str, epochs: int, threads: int) -> JobCost:
    """Carry the job out in `folder`."""
    write_rows(folder)
    config = RunConfig.model_validate(recipe(cache, curriculum=curriculum, epochs=epochs, threads=threads))
    watch = _Watch(time.process_time)
    pipeline.run(config, inputs=Inputs(base=folder), out=folder / "run", emit=watch, should_stop=lambda: False)
    assert watch.ready is not None
    assert watch.planned is not None
    repeat = config.resolved().subset_repeat or 1
    return JobCost(
        cache=cache,
        curriculum=curriculum,
        cpu_s=watch.cpu_s,
        samples=watch.ready.rows["train"],
        prompt_tokens=watch.ready.prompt_tokens,
        visits=repeat * sum(epoch.subset_size for epoch in watch.planned.epochs),
        visited_supervised=watch.visited_supervised,
    )


def recipe(cache: str, *, curriculum: str, epochs: int, threads: int) -> dict[str, Any]:
    """The `cpd` preset with as little beside the training as a run can have."""
    tiny = {"tiny": "gpt2", "vocabulary": PAIR.vocabulary}
    return {
        "teacher": {**tiny, "layers": 6, "hidden": 256, "cache": cache},
        "student": {**tiny, "layers": 3, "hidden": 128, "seed": 1},
        "dataset": {"train": "train.jsonl", "test": "test.jsonl", "validation_fraction": 0.0},
        "preset": "cpd",
        "curriculum": curriculum,
        "epochs": epochs,
        "max_length": PAIR.max_length,
        "overlong": "truncate_response",
        "threads": threads,
        "evaluation": {"validation_rows": 0, "test_rows": TEST_ROWS, "generation": {"max_new_tokens": 1}},
        "checkpoints": {"every_steps": 10_000},
    }


def write_rows(folder: Path) -> None:
    """train.jsonl and test.jsonl with rows of drawn words, as long as Dolly's."""
    generator = numpy_generator(0, "benchmark", "words")
    words = ["".join(generator.choice(_SYLLABLES, size=3)) for _ in range(_WORDS)]
    words += sorted(set(PAPER_TEMPLATE.split()))
    drawn = lengths(ROWS + TEST_ROWS, PAIR.max_length, seed=1)
    rows = [
        {
            "instruction": " ".join(generator.choice(words, size=max(int(prompt) - _TEMPLATE_TOKENS, 1))),
            "output": " ".join(generator.choice(words, size=max(int(response) - 1, 1))),
        }
        for prompt, response in drawn
    ]
    for name, part in (("train", rows[:ROWS]), ("test", rows[ROWS:])):
        text = "".join(json.dumps(row) + "\n" for row in part)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
