"""What a run tells of its difficulty profile: thinned curve and histogram, the plan made with it, and samples to look at."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cpd_engine.data.records import Row
from cpd_engine.difficulty import suspicious
from cpd_engine.events import PlacedSample, Planned, ProfileReady, ScoredSample, SuspiciousSample
from cpd_engine.profile import DifficultyProfile
from cpd_engine.stages.context import Run
from cpd_engine.stages.prepare import Prepared

_POINTS = 500
_BINS = 40
# Samples at either end, and of the suspicious ones; and along the whole profile, whose prompts are told by their heads.
_SHOWN = 20
_ALONG = 100
_TEXT = 500
_HEAD = 120


def profile_ready(
    run: Run,
    prepared: Prepared,
    profile: DifficultyProfile,
    planned: Planned,
    student_ce: NDArray[np.float64],
    teacher_ce: NDArray[np.float64] | None,
) -> ProfileReady:
    """`student_ce` and `teacher_ce`, where the teacher was asked: mean CE [N] in nats per token, in the order of the samples."""
    epochs = planned.epochs
    size = len(profile.order)
    at = _evenly(size, _POINTS)
    first, last = range(min(_SHOWN, size)), range(size - 1, max(size - 1 - _SHOWN, -1), -1)
    counts, edges = np.histogram(profile.scores, bins=_BINS)
    return ProfileReady(
        difficulty=run.config.difficulty or "ce_mean",
        samples=size,
        unscored=len(prepared.samples) - size,
        descending=profile.descending,
        mean=float(profile.cumulative[-1]),
        k=tuple((at + 1).tolist()),
        cumulative=tuple(profile.cumulative[at].tolist()),
        histogram_edges=tuple(edges.tolist()),
        histogram_counts=tuple(counts.tolist()),
        targets=tuple(epoch.target for epoch in epochs if epoch.target is not None),
        subset_sizes=tuple(epoch.subset_size for epoch in epochs),
        mixing=tuple(epoch.mixing for epoch in epochs),
        temperatures=tuple(epoch.temperature for epoch in epochs),
        easiest=_ends(prepared, profile, last if profile.descending else first),
        hardest=_ends(prepared, profile, first if profile.descending else last),
        along=_along(prepared, profile),
        suspicious=None if teacher_ce is None else _suspicious(prepared, student_ce, teacher_ce),
    )


def _evenly(size: int, most: int) -> NDArray[np.int64]:
    """At most `most` of the places 0..size − 1, both ends among them."""
    return np.unique(np.linspace(0, size - 1, min(size, most)).round().astype(np.int64))


def _ends(prepared: Prepared, profile: DifficultyProfile, places: range) -> tuple[ScoredSample, ...]:
    shown = []
    for place in places:
        row = _row(prepared, int(profile.order[place]))
        score = float(profile.scores[place])
        shown.append(ScoredSample(id=row.id, score=score, prompt=_prompt(row, _TEXT), response=row.response[:_TEXT]))
    return tuple(shown)


def _along(prepared: Prepared, profile: DifficultyProfile) -> tuple[PlacedSample, ...]:
    shown = []
    for place in _evenly(len(profile.order), _ALONG).tolist():
        row = _row(prepared, int(profile.order[place]))
        score = float(profile.scores[place])
        shown.append(PlacedSample(k=place + 1, id=row.id, score=score, prompt=_prompt(row, _HEAD)))
    return tuple(shown)


def _suspicious(
    prepared: Prepared, student_ce: NDArray[np.float64], teacher_ce: NDArray[np.float64]
) -> tuple[SuspiciousSample, ...]:
    shown = []
    for index in suspicious(student_ce, teacher_ce)[:_SHOWN].tolist():
        row = _row(prepared, index)
        shown.append(
            SuspiciousSample(
                id=row.id,
                student_ce=float(student_ce[index]),
                teacher_ce=float(teacher_ce[index]),
                prompt=_prompt(row, _TEXT),
                response=row.response[:_TEXT],
            )
        )
    return tuple(shown)


def _row(prepared: Prepared, index: int) -> Row:
    return prepared.rows[prepared.samples[index].row]


def _prompt(row: Row, length: int) -> str:
    return f"{row.instruction}\n{row.input}".strip()[:length]
