"""Whose answers a step trains on: the data's own responses and, on-policy, in part what the student says itself (GKD).

GKD tosses a coin for each step and lets the student answer the whole of it or none (Agarwal et al., 2024, Algorithm 1); its objective
is (1 − λ)·E over data + λ·E over the student's text. Here the visits of an epoch are dealt out evenly instead, so that every step
holds both in that proportion: the same two expectations and the same share, with less noise from step to step; and what the paper
says of its own runs (A.4.3: 50 % student-generated with 50 % ground truth). Nothing is learnt through the sampling.

An answer is kept as the ids that were generated. One that ended is closed by the end token, which is supervised; one that was cut
short is not, so that nobody is taught to end there. One that consists of the end alone is an answer; one of nothing at all is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cpd_engine.config import PolicySpec
from cpd_engine.course import Turn
from cpd_engine.data.encode import Ids, Sample
from cpd_engine.generate import Answer
from cpd_engine.repro import derived_seed, numpy_generator

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Prompts for the student to answer: sample `indices`, in an `epoch` after `step` finished steps; `first`: none before in it."""

    indices: Indices
    epoch: int
    step: int
    first: bool
    seed: int


class Ask(Protocol):
    """Has the student, as it is now, answer; all processes alike. Raises StopRequested."""

    def __call__(self, question: Question, /) -> Sequence[Answer]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnAnswer:
    """What the student said to sample `index`; `ended`: by itself."""

    index: int
    tokens: Ids
    ended: bool


def students(first: int, count: int, fraction: float) -> NDArray[np.bool_]:
    """Which of an epoch's visits number `first` to `first + count − 1` (from 0) are the student's: ⌊fraction·k⌋ of the first k."""
    # Less than a visit in a billion, so that 0.29 · 100 is 29.
    shares = np.floor(fraction * np.arange(first, first + count + 1) + 1e-9)
    mine: NDArray[np.bool_] = np.diff(shares) > 0.0
    return mine


def own_sample(sample: Sample, answer: OwnAnswer, end: int) -> Sample:
    """The sample with the student's answer for its response."""
    said = [sample.input_ids[: sample.prompt_length], answer.tokens, np.full(int(answer.ended), end, dtype=np.int32)]
    return replace(sample, input_ids=np.concatenate(said, dtype=np.int32), generated=True)


class OnPolicy:
    """Puts the student's answers into the turns of its training. What it holds of them is part of the training's state.

    `samples`: all that `Turn.indices` count; `batch_size`: the course's; `end`: the token that closes an answer.
    """

    def __init__(
        self, spec: PolicySpec, *, samples: Sequence[Sample], batch_size: int, end: int, seed: int, ask: Ask
    ) -> None:
        self._spec = spec
        self._samples = samples
        self._batch_size = batch_size
        self._end = end
        self._seed = derived_seed(seed, "student", "answers")
        self._ask = ask
        part = int(np.ceil(spec.student_fraction * batch_size))
        self._room = spec.buffer or max(4 * spec.batch_size, part)
        # `epoch`: those of the epoch; `step`: the newest, oldest first.
        self._held: list[OwnAnswer] = []
        self._by_index: dict[int, OwnAnswer] = {}
        self._epoch = 0
        # Visits of the epoch up to which prompts have been answered.
        self._answered = 0

    def due(self, turn: Turn) -> bool:
        """Whether the student has something to answer before this turn can be taken."""
        mine = self._own(turn)
        if not mine.any():
            return False
        return turn.epoch.epoch != self._epoch or bool(mine[max(self._answered - self._place(turn), 0) :].any())

    def write(self, turn: Turn, step: int) -> None:
        """Have it answered, after `step` finished steps. Raises StopRequested with nothing changed."""
        first = turn.epoch.epoch != self._epoch
        start = self._place(turn) if first else max(self._answered, self._place(turn))
        ahead = start + np.flatnonzero(students(start, len(turn.visits) - start, self._spec.student_fraction))
        if self._spec.refresh == "step":
            needed = int((ahead < self._place(turn) + len(turn.samples)).sum())
            ahead = ahead[: max(self._spec.batch_size, needed)]
        indices = turn.visits[ahead]
        if self._spec.refresh == "epoch":
            indices = np.unique(indices)
        seed = derived_seed(self._seed, turn.epoch.epoch, *([step] if self._spec.refresh == "step" else []))
        said = self._ask(Question(indices=indices, epoch=turn.epoch.epoch, step=step, first=first, seed=seed))
        self._keep(indices, said)
        self._epoch = turn.epoch.epoch
        self._answered = len(turn.visits) if self._spec.refresh == "epoch" else int(ahead[-1]) + 1

    def shared(self, turn: Turn, step: int) -> Turn:
        """The turn after `step` finished steps, with the student's visits answered by it.

        `epoch`: each by the answer to its own prompt; `step`: by answers drawn from those held, whatever their prompts.
        """
        mine = np.flatnonzero(self._own(turn))
        if not len(mine):
            return turn
        samples, indices = list(turn.samples), turn.indices.copy()
        for place, answer in zip(mine, self._chosen(indices[mine], step), strict=False):
            if answer is not None:
                indices[place] = answer.index
                samples[place] = own_sample(self._samples[answer.index], answer, self._end)
        return replace(turn, samples=samples, indices=indices)

    def state(self) -> dict[str, Tensor]:
        """Everything that a resumed training needs, by name."""
        held = self._held
        empty = np.empty(0, dtype=np.int32)
        return {
            "indices": torch.tensor([one.index for one in held], dtype=torch.int64),
            "lengths": torch.tensor([len(one.tokens) for one in held], dtype=torch.int64),
            "ended": torch.tensor([one.ended for one in held], dtype=torch.bool),
            "tokens": torch.from_numpy(np.concatenate([empty, *(one.tokens for one in held)], dtype=np.int32)),
            "place": torch.tensor([self._epoch, self._answered]),
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `state`."""
        tokens = np.split(state["tokens"].numpy().copy(), np.cumsum(state["lengths"].numpy()))
        named = zip(state["indices"].tolist(), tokens, state["ended"].tolist(), strict=False)
        self._hold([OwnAnswer(index=index, tokens=said, ended=ended) for index, said, ended in named])
        self._epoch, self._answered = state["place"].tolist()

    def _keep(self, indices: Indices, said: Iterable[Answer]) -> None:
        found = [
            OwnAnswer(index=int(index), tokens=np.array(one.tokens, dtype=np.int32), ended=one.finish_reason == "stop")
            for index, one in zip(indices, said, strict=True)
            if one.tokens or one.finish_reason == "stop"
        ]
        self._hold(found if self._spec.refresh == "epoch" else [*self._held, *found][-self._room :])

    def _hold(self, answers: list[OwnAnswer]) -> None:
        self._held = answers
        self._by_index = {answer.index: answer for answer in answers}

    def _chosen(self, indices: Indices, step: int) -> Sequence[OwnAnswer | None]:
        """An answer for each of the student's visits of a turn; None, or none at all, where the data's response stays."""
        if self._spec.refresh == "epoch":
            return [self._by_index.get(int(index)) for index in indices]
        drawn = numpy_generator(self._seed, "draw", step).permutation(len(self._held))[: len(indices)]
        return [self._held[place] for place in drawn]

    def _own(self, turn: Turn) -> NDArray[np.bool_]:
        """Which of the turn's samples the student answers: none where nothing is distilled, as it would learn nothing from them."""
        if not turn.objective.distils:
            return np.zeros(len(turn.samples), dtype=np.bool_)
        return students(self._place(turn), len(turn.samples), self._spec.student_fraction)

    def _place(self, turn: Turn) -> int:
        return turn.index * self._batch_size
