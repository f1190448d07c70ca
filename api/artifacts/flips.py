"""On which rows the distilled student does worse than another model of its job: answers that are wrong now, and the largest losses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from api.artifacts import samples
from api.artifacts.schemas import FlipCounts, FlipPage, FlipView, Opponent
from api.core.errors import NotFound, ValidationFailed
from api.downloads import Content

# Of these an answer is right or wrong; under several seeds it is right where more than half of the answers are.
RIGHT_OR_WRONG = frozenset({"exact_match", "accuracy", "pass_at_1", "pass_at_1_plus"})
LOWER_IS_BETTER = frozenset({"ce"})
_HALF = 0.5
_METRICS = ("exact_match", "rouge_l", "ce", "accuracy", "pass_at_1", "pass_at_1_plus")


@dataclass(frozen=True, slots=True)
class _Loss:
    """A row that got worse: by how much, from what to what, and where its line lies."""

    loss: float
    before: float
    after: float
    offset: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Flips:
    """All rows compared: how many went which way, and those that got worse, the largest loss first."""

    metric: str
    counts: FlipCounts
    losses: tuple[_Loss, ...]


def compare(content: Content, *, against: Opponent, metric: str | None) -> Flips:
    """Read every row once. Without a `metric` the first that the rows have.

    Raises NotFound for a model that the job has not, and ValidationFailed for a metric that its rows have not.
    """
    tally, losses = _Tally(), []
    for line in samples.lines(content):
        answers = json.loads(line.content)["answers"]
        if against not in answers:
            raise NotFound("The job has no such model to compare with.", param="against")
        metric = metric or next(name for name in _METRICS if answers["student"].get(name) is not None)
        before, after = (_value(answers[subject], metric) for subject in (against, "student"))
        loss = after - before if metric in LOWER_IS_BETTER else before - after
        tally.add(loss, before, after)
        if loss > 0:
            losses.append(_Loss(loss, before, after, line.offset, len(line.content)))
    losses.sort(key=lambda found: (-found.loss, found.offset))
    found = metric or _METRICS[0]
    return Flips(metric=found, counts=tally.counts(flips=found in RIGHT_OR_WRONG), losses=tuple(losses))


def page(content: Content, *, against: Opponent, metric: str | None, limit: int, cursor: str | None) -> FlipPage:
    """A page of the rows that got worse; the cursor is a place among them. Raises as `compare`."""
    start = int(cursor) if cursor and cursor.isascii() and cursor.isdigit() and len(cursor) < 10 else 0
    found = compare(content, against=against, metric=metric)
    if cursor is not None and not 0 < start < len(found.losses):
        raise ValidationFailed("cursor: pass the next_cursor of a page as it is", param="cursor")
    stop = start + limit
    return FlipPage(
        against=against,
        metric=found.metric,
        counts=found.counts,
        data=worst(content, found, start, stop),
        has_more=stop < len(found.losses),
        next_cursor=str(stop) if stop < len(found.losses) else None,
    )


def worst(content: Content, found: Flips, start: int, stop: int) -> list[FlipView]:
    """The rows from place `start` to `stop` of those that got worse, with what was answered."""
    made = []
    for one in found.losses[start:stop]:
        line = b"".join(content.read(one.offset, one.offset + one.length))
        told = {"before": one.before, "after": one.after, "loss": one.loss}
        made.append(FlipView.model_validate(json.loads(line) | told))
    return made


def _value(answer: Mapping[str, Any], metric: str) -> float:
    """A row's score; of a suite the mean over its seeds, as the report pairs them."""
    said = answer.get("generations") or [answer]
    values = [one.get(metric) for one in said]
    if any(value is None for value in values):
        raise ValidationFailed("metric: the rows are not scored by it", param="metric")
    return fmean(values)


class _Tally:
    """How many rows went which way."""

    def __init__(self) -> None:
        self._worse = self._better = self._equal = self._lost = self._gained = 0

    def add(self, loss: float, before: float, after: float) -> None:
        """Count a row."""
        self._worse += loss > 0
        self._better += loss < 0
        self._equal += loss == 0
        self._lost += before > _HALF >= after
        self._gained += after > _HALF >= before

    def counts(self, *, flips: bool) -> FlipCounts:
        """As they are shown, right and wrong only where there is such a thing."""
        return FlipCounts(
            rows=self._worse + self._better + self._equal,
            worse=self._worse,
            better=self._better,
            equal=self._equal,
            right_to_wrong=self._lost if flips else None,
            wrong_to_right=self._gained if flips else None,
        )
