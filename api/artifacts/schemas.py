"""Checkpoints and sample answers on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from cpd_engine.events import CheckpointRole

Format = Literal["merged", "adapter"]
# Rows that the distilled student alone answers right, of it and the untouched one, or the untouched one alone.
Change = Literal["gained", "lost"]


class Frozen(BaseModel):
    """Base of the answers."""

    model_config = ConfigDict(frozen=True)


class FileView(Frozen):
    """A file of a checkpoint."""

    path: str
    size_bytes: int
    sha256: str


class CheckpointView(Frozen):
    """A sealed directory of a run. `formats` are what /download packs: the whole directory, or with LoRA the adapter alone."""

    object: Literal["checkpoint"] = "checkpoint"
    id: str
    name: str
    role: CheckpointRole
    step: int | None
    epoch: int | None
    metrics: dict[str, float]
    size_bytes: int
    files: list[FileView]
    manifest_sha256: str
    formats: list[Format]
    created_at: datetime


class CheckpointPage(Frozen):
    """A page of checkpoints, newest first."""

    object: Literal["list"] = "list"
    data: list[CheckpointView]
    has_more: bool
    next_cursor: str | None


class GenerationView(Frozen):
    """One of a model's answers to a row of a suite, under one seed (null: greedy), with its scores in 0..1 by the names of its metrics.

    `parsed`: the final answer that was found in a solution, or why a program failed.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    seed: int | None
    text: str
    tokens: int
    finish_reason: str
    parsed: str | None


class AnswerView(Frozen):
    """What one model answered. exact_match and rouge_l of this row; ce in nats per each of `supervised` tokens of the reference. Of a
    suite the first seed's answer, with the scores of its task, and all seeds' in `generations`.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    text: str
    exact_match: float | None = None
    rouge_l: float | None = None
    ce: float | None = None
    supervised: int | None = None
    finish_reason: str | None = None
    tokens: int | None = None
    generations: list[GenerationView] | None = None


class SampleView(Frozen):
    """A row of the test split, or of a suite, with the answer of every model. `instruction` and `input` are the parts of `prompt`."""

    row: int | str
    suite: str | None = None
    prompt: str
    instruction: str = ""
    input: str = ""
    reference: Any
    answers: dict[str, AnswerView]

    def change(self) -> Change | None:
        """What distillation did to the row by exact match; None where nothing, or where that is not known."""
        before, after = (self.answers.get(subject) for subject in ("untouched", "student"))
        if before is None or after is None or before.exact_match is None or after.exact_match is None:
            return None
        if before.exact_match == after.exact_match:
            return None
        return "gained" if after.exact_match > before.exact_match else "lost"


class SamplePage(Frozen):
    """A page of sample answers in the order of the test split."""

    object: Literal["list"] = "list"
    data: list[SampleView]
    has_more: bool
    next_cursor: str | None


# Whom the distilled student is held against.
Opponent = Literal["teacher", "untouched", "sft", "kld"]
FlipMetric = Literal["exact_match", "rouge_l", "ce", "accuracy", "pass_at_1", "pass_at_1_plus"]


class FlipCounts(Frozen):
    """How many rows the student does worse on, better, and just as well. Right and wrong are null for a metric that knows neither."""

    rows: int
    worse: int
    better: int
    equal: int
    right_to_wrong: int | None
    wrong_to_right: int | None


class FlipView(SampleView):
    """A row that got worse: `before` is the other model's score, `after` the distilled student's, `loss` how much is lost.

    Scores in 0..1, of a suite the mean over its seeds; `ce` in nats per token, where less is better.
    """

    before: float
    after: float
    loss: float


class FlipPage(Frozen):
    """A page of the rows on which the distilled student does worse than the model `against`, the largest loss first."""

    object: Literal["list"] = "list"
    against: Opponent
    metric: str
    counts: FlipCounts
    data: list[FlipView]
    has_more: bool
    next_cursor: str | None
