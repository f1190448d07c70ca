"""What figures are drawn of, made by hand."""

from __future__ import annotations

import math
from itertools import accumulate, pairwise
from typing import Any

import plotly.graph_objects as go

from cpd_engine.events import (
    Compared,
    ComparedMember,
    Comparison,
    MemberAgainst,
    MemberCosts,
    MemberScore,
    PlacedSample,
    ProfileReady,
    Reported,
    ScoredSample,
    SuiteReport,
    SuiteScore,
)

HOSTILE = '<a href="javascript:alert(1)">x</a>\n& more'
SUBJECTS = ("teacher", "untouched", "student", "sft")


def profile(samples: int = 100, epochs: int = 4, *, prompt: str = "Why?", **changed: Any) -> ProfileReady:
    """Scores 1, 2, …: the mean of the k easiest is (k + 1)/2."""
    scores = [float(i + 1) for i in range(samples)]
    means = [total / (i + 1) for i, total in enumerate(accumulate(scores))]
    shown = sorted({round(i * (samples - 1) / 499) for i in range(500)})
    cuts = [math.ceil(samples * (e + 1) / epochs) for e in range(epochs)]
    edges = [1 + (samples - 1) * i / 40 for i in range(41)]
    told = [ScoredSample(id=f"row-{i}", score=scores[i], prompt=prompt, response="r") for i in range(samples)]
    along = sorted({round(i * (samples - 1) / 99) for i in range(100)})
    values: dict[str, Any] = {
        "difficulty": "ce_mean",
        "samples": samples,
        "unscored": 0,
        "descending": False,
        "mean": means[-1],
        "k": tuple(i + 1 for i in shown),
        "cumulative": tuple(means[i] for i in shown),
        "histogram_edges": tuple(edges),
        "histogram_counts": tuple(sum(left <= s < right for s in scores) for left, right in pairwise(edges)),
        "targets": tuple(means[cut - 1] for cut in cuts),
        "subset_sizes": tuple(cuts),
        "mixing": tuple(e / epochs for e in range(epochs)),
        "temperatures": tuple(1.0 + e / epochs for e in range(epochs)),
        "easiest": tuple(told[:20]),
        "hardest": tuple(reversed(told[-20:])),
        "along": tuple(PlacedSample(k=i + 1, id=f"row-{i}", score=scores[i], prompt=prompt) for i in along),
    }
    return ProfileReady(**(values | changed))


def report(*, difference: float = 20.0, non_zero: int = 30, suites: int = 0) -> Reported:
    """100 rows: the student answers 50 right; it differs from each other model on `non_zero` rows, by `difference` points."""
    return Reported(
        rows=100,
        scores={
            "teacher": {"exact_match": 80.0, "rouge_l": 90.0, "ce": 0.5},
            "untouched": {"exact_match": 30.0, "rouge_l": 40.0, "ce": 2.5},
            "student": {"exact_match": 50.0, "rouge_l": 70.0, "ce": 1.5},
            "sft": {"exact_match": 45.0, "rouge_l": 60.0, "ce": 1.75},
        },
        steps={},
        gap_closed={},
        comparisons=tuple(
            Comparison(
                subject=subject,
                metric=metric,
                difference=difference,
                interval=(1.0, 30.0),
                p_value=0.01,
                non_zero=non_zero,
                rows=100,
            )
            for subject in ("teacher", "untouched", "sft")
            for metric in ("exact_match", "rouge_l", "ce")
        ),
        suites=tuple(
            SuiteReport(
                suite=f"suite-{i}",
                task="gsm8k",
                rows=50,
                seeds=(),
                settings_sha256="0" * 64,
                scores={
                    "student": {"accuracy": SuiteScore(mean=40.0, item_error=2.0, seed_deviation=None)},
                    "teacher": {"accuracy": SuiteScore(mean=60.0, item_error=None, seed_deviation=None)},
                },
                gap_closed={},
                comparisons=(),
            )
            for i in range(suites)
        ),
        intervals={subject: {"exact_match": (25.0, 85.0), "ce": (0.25, 2.75)} for subject in SUBJECTS},
    )


def member(label: str, mean: float, *, p_holm: float | None, worker_s: float | None = 1800.0) -> ComparedMember:
    score = MemberScore(
        mean=mean,
        by_seed=(mean - 1.0, mean + 1.0),
        seed_interval=None,
        row_interval=(mean - 4.0, mean + 5.0),
        gap_closed=0.5,
    )
    against = MemberAgainst(difference=mean - 30.0, interval=(0.5, 9.5), p_value=0.01, p_holm=p_holm, non_zero=9)
    return ComparedMember(
        label=label,
        seeds=(0, 1),
        failures=(),
        scores={"exact_match": score, "rouge_l": score},
        against={} if label == "kld" else {"exact_match": against, "rouge_l": against},
        teacher={"exact_match": 60.0, "rouge_l": 60.0},
        untouched={"exact_match": 10.0, "rouge_l": 10.0},
        costs=MemberCosts(steps=100.0, supervised_tokens=1e4, processed_tokens=2e4, train_s=60.0, worker_s=worker_s),
    )


def table() -> Compared:
    """kld is the baseline; cpd differs from it, rkl does not, and a member that failed has no scores."""
    failed = ComparedMember(
        label="taid", seeds=(), failures=("failed",), scores={}, against={}, teacher={}, untouched={},
        costs=MemberCosts(steps=None, supervised_tokens=None, processed_tokens=None, train_s=None, worker_s=None),
    )  # fmt: skip
    members = (
        member("kld", 30.0, p_holm=None),
        member("cpd", 35.0, p_holm=0.04),
        member("rkl", 31.0, p_holm=0.4),
        failed,
    )
    return Compared(rows=100, baseline="kld", budget="100 steps", members=members)


def trace(figure: go.Figure, name: str) -> Any:
    """The one trace of this name."""
    (found,) = [one for one in figure.data if one.name == name]
    return found
