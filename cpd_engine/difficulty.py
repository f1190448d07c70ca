"""How hard a sample is, one number each, higher = harder. Pure. Paper 3.1 and 6.3."""

from __future__ import annotations

from typing import assert_never

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from cpd_engine.config import BY_ANSWERS, BY_GRADES, BY_TEACHER, Difficulty

Floats = NDArray[np.float64]
# The constant of reciprocal rank fusion; POCL's paper prints none, and 60 is its authors' own (Cormack, Clarke and Büttcher, 2009).
FUSION = 60.0


def scores(
    kind: Difficulty,
    *,
    student_ce_sum: Floats,
    supervised_tokens: NDArray[np.int64],
    teacher_ce_sum: Floats | None = None,
    student_entropy_sum: Floats | None = None,
    student_rouge_l: Floats | None = None,
    student_failing: Floats | None = None,
) -> Floats:
    """Score per sample [N] from summed negative log-likelihoods in nats over the supervised tokens.

    `ce_mean`: −log q(y) per token, of the untrained student; `ce_sum`: its sum, the paper's formula; `teacher_ce`: the teacher's
    mean; `dds`: the student's over the teacher's, DA-KD's distillation difficulty score as the paper words it (6.3), whose own code
    is not public; `entropy`: the mean of −Σ q log q over the student's predictions of those tokens (6.3); `rouge_l`: 1 − ROUGE-L
    (0..1) of the student's greedy answer (6.3); `rank_fusion`: POCL's, the ranks by ROUGE-L and by CE fused;
    `answer` and `tests`: `student_failing`, 1 for a wrong final answer and 0 for a right one, or the share of tests that fail. A sample
    without supervised tokens gets NaN, which the profile leaves out and counts. Raises ValueError where needed values are missing.
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
        case "rouge_l":
            return (1.0 - _given(student_rouge_l, kind)) * (tokens / tokens)
        case "rank_fusion":
            return fused(student_ce_sum.astype(np.float64) / tokens, 1.0 - _given(student_rouge_l, kind))
        case "answer" | "tests":
            return _given(student_failing, kind) * (tokens / tokens)
        case _:
            assert_never(kind)


def fused(*difficulties: Floats) -> Floats:
    """Ranks by several difficulties [N] made one by reciprocal rank fusion: the largest Σ 1/(60 + rank) less each sample's, so from 0.

    The easiest has rank 1, equal ones share their mean rank. A sample with any difficulty that is not finite gets NaN.
    """
    usable = np.logical_and.reduce([np.isfinite(values) for values in difficulties])
    result = np.full(len(usable), np.nan)
    nearness = sum(1.0 / (FUSION + rankdata(values[usable])) for values in difficulties)
    if usable.any():
        result[usable] = np.max(nearness) - nearness
    return result


def ranks_by(ce_mean: Floats, id_ranks: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places [N] by (the student's mean CE, id): what orders samples of equal score where a difficulty knows right and wrong only."""
    ranks = np.empty_like(id_ranks)
    ranks[np.lexsort((id_ranks, ce_mean))] = np.arange(len(id_ranks))
    return ranks


def suspicious(student_ce: Floats, teacher_ce: Floats, *, share: float = 0.1) -> NDArray[np.int64]:
    """Samples in the hardest `share` of both models' mean CE [N], the teacher's least likely first.

    What a good model of the task finds unlikely is often wrong, and hard for the student for that reason alone.
    """
    usable = np.flatnonzero(np.isfinite(student_ce) & np.isfinite(teacher_ce))
    count = int(share * len(usable))
    by_student, by_teacher = (usable[np.argsort(-values[usable], kind="stable")] for values in (student_ce, teacher_ce))
    found: NDArray[np.int64] = by_teacher[:count][np.isin(by_teacher[:count], by_student[:count])]
    return found


def breaks_ties(kind: Difficulty) -> bool:
    """True where samples of equal score are ordered by `ranks_by`."""
    return kind in BY_GRADES


def needs_answers(kind: Difficulty) -> bool:
    """True where the untrained student has to answer every training prompt."""
    return kind in BY_ANSWERS


def needs_teacher(kind: Difficulty) -> bool:
    """True where scoring needs a pass of the teacher."""
    return kind in BY_TEACHER


def _given(sums: Floats | None, kind: Difficulty) -> Floats:
    if sums is None:
        missing = "the teacher's cross-entropy" if kind in BY_TEACHER else "the student's answers"
        missing = "the student's entropy" if kind == "entropy" else missing
        raise ValueError(f"{kind} needs {missing}")
    return sums
