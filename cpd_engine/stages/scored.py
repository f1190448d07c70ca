"""What the untrained student's passes over the training samples find: made once for all jobs on the same student and samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cpd_engine.config import BY_GRADES
from cpd_engine.data.store import read_column, write_columns
from cpd_engine.events import Shareable
from cpd_engine.models.load import load
from cpd_engine.scoring import CrossEntropies, cross_entropies
from cpd_engine.stages.attempting import attempted, column_of
from cpd_engine.stages.context import Run
from cpd_engine.stages.failing import grader
from cpd_engine.stages.prepare import Prepared
from cpd_engine.stages.sharing import shared
from cpd_engine.states.digests import Digests
from cpd_engine.states.key import data_digest, decoder_digest

_FILE = "columns.arrow"
_VALUE_BYTES = 8
Columns = dict[str, NDArray[np.float64]]


def student_scores(run: Run, prepared: Prepared, student: Path) -> CrossEntropies:
    """The student's cross-entropy of every training sample, with entropies where the difficulty is made of them."""
    entropies = run.config.difficulty == "entropy"

    def score() -> Columns:
        decoder = load(student, dtype=torch.float32, device=run.runtime.device)
        found = cross_entropies(
            decoder,
            prepared.samples,
            runtime=run.runtime,
            entropies=entropies,
            on_progress=run.progress("profile", "difficulty by the untrained student"),
        )
        return {"sums": found.sums} | ({"entropies": found.entropy_sums} if found.entropy_sums is not None else {})

    columns = ("sums", "entropies") if entropies else ("sums",)
    found = _recalled(run, prepared, student, "student_scores", {"columns": columns}, score)
    return CrossEntropies(sums=found["sums"], tokens=prepared.samples.supervised, entropy_sums=found.get("entropies"))


def student_attempts(run: Run, prepared: Prepared, student: Path) -> NDArray[np.float64]:
    """What the student's greedy answers to the training prompts are worth [N], 0..1; see `attempted`."""
    name, kind = column_of(run.config.difficulty), run.config.difficulty
    settings = run.config.evaluation.generation.model_copy(update={"temperature": 0.0})
    more = {
        "columns": (name,),
        "settings": settings.model_dump(),
        "end": prepared.end,
        "rows": prepared.data["sha256"],
        **({"grader": grader(kind)} if kind in BY_GRADES else {}),
    }
    found = _recalled(
        run,
        prepared,
        student,
        "student_attempts",
        more,
        lambda: {name: attempted(run, prepared, student)},
    )
    return found[name]


def _recalled(
    run: Run,
    prepared: Prepared,
    student: Path,
    what: Shareable,
    more: Mapping[str, Any],
    make: Callable[[], Columns],
) -> Columns:
    """Columns by name, in the order of the training samples."""

    def parts(files: Digests) -> Mapping[str, Any]:
        return {"student": decoder_digest(student, files), "samples": data_digest(prepared.samples), **more}

    with shared(run, "profile", what, parts) as work:
        if work.found is not None:
            path = work.found / _FILE
            return run.fleet.told(
                {name: read_column(path, name) for name in more["columns"]} if run.fleet.leads else {}
            )
        columns = make()
        size_bytes = _VALUE_BYTES * sum(map(len, columns.values()))
        work.leave(lambda draft: write_columns(draft / _FILE, columns, metadata={"what": what}), size_bytes)
        return columns
