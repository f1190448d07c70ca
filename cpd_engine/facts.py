"""What a forecast knows of a run: how long its samples and questions are, and what its models weigh."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cpd_engine.timing import Amount

# Tokens that are scored together, as in cpd_engine.scoring.
BATCH_TOKENS = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Of samples, by index: tokens [N], and how many of them are supervised [N]."""

    tokens: NDArray[np.int64]
    supervised: NDArray[np.int64]

    def whole(self, pieces: float) -> Amount:
        """All samples once, in `pieces` steps or batches."""
        return Amount(pieces=pieces, units=float(self.tokens.sum()), others=float(self.supervised.sum()))

    @property
    def scoring(self) -> Amount:
        """All samples scored once."""
        return self.whole(-(-int(self.tokens.sum()) // BATCH_TOKENS))

    @property
    def asked(self) -> Questions:
        """The samples as questions."""
        prompts, references = (tuple(of.tolist()) for of in (self.tokens - self.supervised, self.supervised))
        return Questions(lengths=self, prompts=prompts, references=references)


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """Rows that are answered and scored: prompt lengths, and the decoding steps that the reference answers take, end token included."""

    lengths: Lengths
    prompts: tuple[int, ...]
    references: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteQuestions:
    """A suite, which every model answers `repeats` times: prompt lengths, and the decoding steps of answers that are as long as the
    references, or as the worked examples where a reference is but the end of an answer; at most `most`, which one that never ends takes.
    """

    prompts: tuple[int, ...]
    references: tuple[int, ...]
    most: int
    repeats: int
    batch_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the plan is laid over. `order`: sample indices from easy to hard, or None before the profile.

    `said`: decoding steps of a typical answer by the teacher and the student as they came, None where they will have been trained
    by then; `trained_bytes`: of what the student's optimizer moves (the adapter alone with LoRA); `kept`: the teacher's states are
    made once, at the first need of them, or were `found` where another job had left them, and spare training the body; on-policy
    they do not.
    """

    train: Lengths
    order: NDArray[np.int64] | None
    validation: Questions
    test: Questions
    validations: int
    teacher_bytes: int
    student_bytes: int
    trained_bytes: int
    teacher_said: int | None
    student_said: int | None
    kept: bool
    found: bool
    suites: tuple[SuiteQuestions, ...] = ()
