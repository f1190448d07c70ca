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
