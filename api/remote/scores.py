"""What a run's models scored and said, as the service tells it."""

from __future__ import annotations

from typing import Any

from api.remote.answers import Answer
from cpd_engine.events import Evaluated, Reported, SuiteScored


class Evaluation(Answer):
    """Every score so far and, once the job has evaluated, the final table."""

    scores: tuple[Evaluated, ...] = ()
    suites: tuple[SuiteScored, ...] = ()
    report: Reported | None = None


class FlipCounts(Answer):
    """How many rows went which way; right and wrong are None for a score that knows neither."""

    rows: int
    worse: int
    better: int
    equal: int
    right_to_wrong: int | None = None
    wrong_to_right: int | None = None


class Generation(Answer):
    """One of a model's answers to a row of a suite; `parsed`: the final answer found in it, or why a program failed."""

    seed: int | None
    text: str
    finish_reason: str
    parsed: str | None = None


class SampleAnswer(Answer):
    """What one model answered to one row of the test split, or of a suite, there under each seed."""

    text: str
    exact_match: float | None = None
    rouge_l: float | None = None
    ce: float | None = None
    finish_reason: str | None = None
    accuracy: float | None = None
    pass_at_1: float | None = None
    generations: tuple[Generation, ...] | None = None


class Sample(Answer):
    """A row of the test split, or of a suite, with every model's answer to it."""

    row: int | str
    prompt: str
    instruction: str = ""
    input: str = ""
    reference: Any
    answers: dict[str, SampleAnswer]


class Flip(Sample):
    """A row that got worse: the other model's score, the distilled student's, and how much is lost."""

    before: float
    after: float
    loss: float


class Flips(Answer):
    """The rows on which the distilled student does worse than the model `against`, the largest loss first; `data` are the first of them."""

    against: str
    metric: str
    counts: FlipCounts
    data: tuple[Flip, ...]
