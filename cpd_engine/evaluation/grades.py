"""A model's answers to a suite as they are kept, row by row, and what they come to: means, their errors, paired comparisons. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from cpd_engine.data.records import Row
from cpd_engine.evaluation.report import SUBJECTS, told
from cpd_engine.evaluation.settings import metrics
from cpd_engine.evaluation.significance import paired
from cpd_engine.events import Comparison, Subject, SuiteReport, SuiteScore


@dataclass(frozen=True, slots=True, kw_only=True)
class Graded:
    """One answer. `scores` in 0..1 by metric; `parsed`: the final answer of maths, or how a program fared, None of text."""

    row: str
    text: str
    tokens: tuple[int, ...]
    finish_reason: str
    scores: dict[str, float]
    parsed: str | None = None


# Answers by seed (None: greedy), all on the same rows in the same order.
BySeed = dict[int | None, list[Graded]]


def means(answers: Sequence[Graded]) -> dict[str, float]:
    """Over the rows, in percent. ValueError without rows."""
    if not answers:
        raise ValueError("no graded rows to average")
    return {name: 100.0 * fmean(one.scores[name] for one in answers) for name in answers[0].scores}


def suite_report(
    suite: str, task: str, answers: Mapping[str, BySeed], *, settings_sha256: str, seed: int
) -> SuiteReport:
    """A suite's part of the table, over all subjects with answers. Raises ValueError where they were not asked the same."""
    rows = _require_alike(suite, answers)
    names = metrics(task)
    scores = {subject: {name: _score(by_seed, name) for name in names} for subject, by_seed in answers.items()}
    others = [subject for subject in SUBJECTS if subject in answers and subject != "student" and "student" in answers]
    comparisons = [_compare(answers, other, name, seed=seed) for other in others for name in names]
    return SuiteReport(
        suite=suite,
        task=task,
        rows=rows,
        seeds=tuple(one for one in next(iter(answers.values())) if one is not None),
        settings_sha256=settings_sha256,
        scores=scores,
        gap_closed=_gap_closed(scores, names),
        comparisons=tuple(comparisons),
    )


def suite_samples(suite: str, rows: Sequence[Row], answers: Mapping[str, BySeed]) -> Iterator[dict[str, Any]]:
    """One JSON-ready object a row: what was asked, and every model's answer under every seed. Raises ValueError."""
    _require_alike(suite, answers)
    for at, row in enumerate(rows):
        yield {
            "row": row.id,
            "suite": suite,
            "prompt": f"{row.instruction}\n{row.input}".strip(),
            "instruction": row.instruction,
            "input": row.input,
            "reference": row.references[0] if row.references else None,
            "references": list(row.references),
            "answers": {
                subject: _shown([(seed, found[at]) for seed, found in by_seed.items()])
                for subject, by_seed in answers.items()
            },
        }


def _shown(by_seed: Sequence[tuple[int | None, Graded]]) -> dict[str, Any]:
    """The first seed's answer, and all of them beside it."""
    said = [
        {
            "seed": seed,
            "text": one.text,
            "tokens": len(one.tokens),
            "finish_reason": one.finish_reason,
            "parsed": one.parsed,
            **one.scores,
        }
        for seed, one in by_seed
    ]
    return said[0] | {"generations": said}


def _require_alike(suite: str, answers: Mapping[str, BySeed]) -> int:
    """The number of rows. ValueError unless every model answered the same rows under the same seeds."""
    asked = [{seed: [one.row for one in found] for seed, found in by_seed.items()} for by_seed in answers.values()]
    if any(one != asked[0] for one in asked) or len({tuple(rows) for rows in asked[0].values()}) != 1:
        raise ValueError(f"{suite}: every model must have answered the same rows under the same seeds")
    return len(next(iter(asked[0].values())))


def per_row(by_seed: BySeed, metric: str) -> list[float]:
    """Percent by row, averaged over the seeds."""
    return [100.0 * fmean(one.scores[metric] for one in of_row) for of_row in zip(*by_seed.values(), strict=True)]


def _score(by_seed: BySeed, metric: str) -> SuiteScore:
    values = per_row(by_seed, metric)
    by_seed_means = [100.0 * fmean(one.scores[metric] for one in found) for found in by_seed.values()]
    return SuiteScore(
        mean=fmean(values),
        item_error=stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None,
        seed_deviation=stdev(by_seed_means) if len(by_seed_means) > 1 else None,
    )


def _gap_closed(scores: Mapping[str, Mapping[str, SuiteScore]], names: Sequence[str]) -> dict[str, float]:
    if not {"teacher", "untouched", "student"} <= scores.keys():
        return {}
    closed = {}
    for name in names:
        teacher, untouched, student = (scores[subject][name].mean for subject in ("teacher", "untouched", "student"))
        if teacher > untouched:
            closed[name] = (student - untouched) / (teacher - untouched)
    return closed


def _compare(answers: Mapping[str, BySeed], other: Subject, metric: str, *, seed: int) -> Comparison:
    """Student minus other: rows averaged over the seeds, then paired (five seeds alone cannot fall below p = .0625)."""
    return told(paired(per_row(answers["student"], metric), per_row(answers[other], metric), seed=seed), other, metric)
