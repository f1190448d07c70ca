"""A job of any number of rows: made-up text, small models for their tokenizer alone, and scores out of a generator."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import numpy as np
import torch

from cpd_engine.config import RunConfig, TinyModel
from cpd_engine.data.store import Samples
from cpd_engine.events import Emit
from cpd_engine.inputs import Inputs
from cpd_engine.models.tiny import build_tiny
from cpd_engine.runtime import Runtime
from cpd_engine.scoring import CrossEntropies
from cpd_engine.stages.context import Run
from cpd_engine.stages.prepare import Prepared, prepare, seal_rows
from cpd_engine.stages.profiling import Profiled, make_profile, seal_scores
from cpd_engine.stages.teaching import Teaching

_SEED = 0
_WORDS = 4000
_LETTERS = "etaoinshrdlucmfwypvbgkqjxz"
# Rows that the tokenizer is trained on.
_TOKENIZER_ROWS = 2000
# Every so many rows one asks what the row before it asked.
_REPEAT = 50
Planned = tuple[Prepared, Profiled]


def write_source(folder: Path, rows: int) -> None:
    """`rows.jsonl` of instructions with about 60 words a row, and the models' folders."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in made_rows(rows))
    texts = [text for row in made_rows(min(rows, _TOKENIZER_ROWS)) for text in row.values()]
    ref = TinyModel(tiny="llama", layers=1, hidden=32, heads=2, vocabulary=2000)
    for name in ("teacher", "student"):
        build_tiny(ref, texts, folder / "models" / name, max_positions=1024)


def made_rows(count: int) -> Iterator[dict[str, str]]:
    """Instructions, inputs and outputs of words that do not exist, drawn by a seed."""
    random = Random(_SEED)
    words = ["".join(random.choices(_LETTERS, k=random.randint(2, 9))) for _ in range(_WORDS)]
    asked = ""
    for number in range(count):
        if number % _REPEAT:
            asked = " ".join(random.choices(words, k=random.randint(5, 20)))
        given = " ".join(random.choices(words, k=random.randint(1, 40))) if number % 3 == 0 else ""
        answer = " ".join(random.choices(words, k=random.randint(1, 80)))
        yield {"instruction": asked or words[0], "input": given, "output": answer}


def open_run(folder: Path, emit: Emit) -> Run:
    """The job over the folder's rows and models, its work in `out/`."""
    spec = {
        "teacher": {"local": "teacher"},
        "student": {"local": "student"},
        "dataset": {"train": "rows.jsonl"},
        "template": "chat",
        "max_length": 512,
        "curriculum": "calibrated_affine",
        "seed": _SEED,
    }
    return Run(
        config=RunConfig.model_validate(spec).resolved(),
        inputs=Inputs(base=folder, model_roots=(folder / "models",)),
        out=folder / "out",
        emit=emit,
        should_stop=lambda: False,
        clock=time.monotonic,
        runtime=Runtime(device=torch.device("cpu"), precision="fp32", threads=1),
    )


def drawn_scores(samples: Samples) -> CrossEntropies:
    """Losses as a model might have found them, in steps so coarse that ids must part equal ones."""
    per_token = np.random.default_rng(_SEED).gamma(4.0, 0.5, len(samples)).round(3)
    return CrossEntropies(sums=per_token * samples.supervised, tokens=samples.supervised)


def rows(run: Run) -> None:
    """Read, check, hash, split and seal the rows."""
    seal_rows(run)


def encode(run: Run) -> Prepared:
    """Verify the rows, encode them and seal the samples."""
    return prepare(run)


def reopen(run: Run) -> Prepared:
    """What a resumed process does of the phase: verify and map."""
    return prepare(run)


def profile(run: Run) -> Planned:
    """All of the phase but the model's pass: scores to the disk, sort, means, cuts, plan, figure."""
    prepared = prepare(run)
    seal_scores(run, prepared, drawn_scores(prepared.samples))
    return _plan(run, prepared)


def replan(run: Run) -> Planned:
    """What a resumed process does of both phases: verify, map, sort, means, cuts, plan."""
    return _plan(run, prepare(run))


def _plan(run: Run, prepared: Prepared) -> Planned:
    # The scores stand, so neither model is loaded.
    return prepared, make_profile(
        run, prepared, teaching=Teaching(run, prepared, prepared.teacher), student=prepared.teacher
    )


# Each returns what a run would go on with, so that it is still there when memory is looked at.
STAGES: dict[str, Callable[[Run], object]] = {
    "rows": rows,
    "encode": encode,
    "reopen": reopen,
    "profile": profile,
    "replan": replan,
}
