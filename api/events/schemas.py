"""Events, series and the engine's results on the wire. The event union is made from the engine's own classes."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime
from functools import cached_property, reduce
from operator import or_
from typing import Annotated, Any, Literal, cast, get_args

from pydantic import BaseModel, ConfigDict, Field, create_model

from api.jobs.states import JobState
from cpd_engine.events import Evaluated, Event, Reported, SuiteScored

Seq = Annotated[int, Field(ge=0, le=2**31 - 1)]


class Frozen(BaseModel):
    """Base of the answers."""

    model_config = ConfigDict(frozen=True)


class EventView(Frozen):
    """An event as stored. `seq` is dense from 1 within a job; `attempt` is the claim that it belongs to, 0 before the first."""

    seq: int
    kind: str
    at: datetime
    attempt: int
    data: dict[str, Any]

    @cached_property
    def json_text(self) -> str:
        """As JSON, made once however many clients are told."""
        return self.model_dump_json()


class StateChange(Frozen):
    """The job moved from one state to another; `from` is null for the first."""

    model_config = ConfigDict(frozen=True, extra="allow")

    source: Annotated[JobState | None, Field(alias="from")]
    to: JobState
    reason: str | None = None


def _documented(kind: str, data: type) -> type[BaseModel]:
    title = "".join(part.title() for part in kind.split("_"))
    return create_model(
        f"{title}Event",
        __doc__=f"Event of kind `{kind}`.",
        seq=(int, ...),
        kind=(cast("type[str]", Literal[kind]), ...),
        at=(datetime, ...),
        attempt=(int, ...),
        data=(data, ...),
    )


def _kind_of(event: type) -> str:
    return str(next(field.default for field in fields(event) if field.name == "kind"))


EVENT_MODELS: dict[str, type[BaseModel]] = {
    **{_kind_of(event): _documented(_kind_of(event), event) for event in get_args(Event)},
    "state_changed": _documented("state_changed", StateChange),
}
# What a client may rely on; answers are not squeezed through it, so that an event of a later version still reaches an older reader.
AnyEvent: Any = Annotated[reduce(or_, EVENT_MODELS.values()), Field(discriminator="kind")]


class EventPage(Frozen):
    """A page of events; `next_cursor` is the `after` of the next."""

    object: Literal["list"] = "list"
    data: list[AnyEvent]
    has_more: bool
    next_cursor: str | None


class PointView(Frozen):
    """A value of a series at an optimizer step (or an epoch, for evaluations)."""

    step: int
    value: float
    at: datetime


class SeriesView(Frozen):
    """A series, thinned to the points asked for with its extremes kept."""

    name: str
    last_step: int
    points: list[PointView]


class SeriesList(Frozen):
    """The series of a job, by name."""

    object: Literal["list"] = "list"
    data: list[SeriesView]


class Evaluation(Frozen):
    """Every score so far, the last of each subject, split, epoch and step, and of suites of each subject and seed; and the final table,
    suites in it, once the run has made it.
    """

    scores: list[Evaluated]
    suites: list[SuiteScored] = []
    report: Reported | None
