"""How hard a sample is, one number each, higher = harder. Pure. Paper 3.1 and 6.3."""

from __future__ import annotations

from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from cpd_engine.config import BY_TEACHER, Difficulty

Floats = NDArray[np.float64]


def scores(
    kind: Difficulty,
    *,
    student_ce_sum: Floats,
    supervised_tokens: NDArray[np.int64],
    teacher_ce_sum: Floats | None = None,
    student_entropy_sum: Floats | None = None,
) -> Floats:
    """Score per sample [N] from summed negative log-likelihoods in nats over the supervised tokens.

    `ce_mean`: −log q(y) per token, of the untrained student; `ce_sum`: its sum, the paper's formula; `teacher_ce`: the teacher's
    mean; `dds`: the student's over the teacher's, DA-KD's distillation difficulty score as the paper words it (6.3), whose own code
    is not public; `entropy`: the mean of −Σ q log q over the student's predictions of those tokens (6.3). A sample without
    supervised tokens gets NaN, which the profile leaves out and counts. Raises ValueError where sums are needed and not there.
    """
    tokens = np.where(supervised_tokens > 0, supervised_tokens, np.nan).astype(np.float64)
    match kind:
        case "ce_mean":
            return student_ce_sum.astype(np.float64) / tokens
        case "ce_sum":
            return student_ce_sum.astype(np.float64) * (tokens / tokens)
        case "teacher_ce":
            return _given(teacher_ce_sum, kind).astype(np.float64) / tokens
        case "dds":
            with np.errstate(divide="ignore", invalid="ignore"):
                # Infinite where the teacher is certain, and so left out: 0 tokens or no doubt at all.
                ratios: Floats = student_ce_sum.astype(np.float64) / _given(teacher_ce_sum, kind) * (tokens / tokens)
            return ratios
        case "entropy":
            return _given(student_entropy_sum, kind).astype(np.float64) / tokens
        case _:
            assert_never(kind)


def needs_teacher(kind: Difficulty) -> bool:
    """True where scoring needs a pass of the teacher."""
    return kind in BY_TEACHER


def _given(sums: Floats | None, kind: Difficulty) -> Floats:
    if sums is None:
        missing = "the student's entropy" if kind == "entropy" else "the teacher's cross-entropy"
        raise ValueError(f"{kind} needs {missing}")
    return sums
