"""Figures of a run, of readings made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import plotly.graph_objects as go
import pytest

from api.events.schemas import PointView
from api.web import live_figures
from api.web.live_figures import Across, Run, cumulative
from cpd_engine.events import EpochStarted

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def readings(values: Sequence[float]) -> list[PointView]:
    """One a minute, from step 1."""
    return [
        PointView(step=i, value=value, at=BEGAN + timedelta(minutes=i - 1)) for i, value in enumerate(values, start=1)
    ]


def epoch(number: int, size: int) -> EpochStarted:
    return EpochStarted(
        trained="student", epoch=number, epochs=2, subset_size=size, samples=10, iterations=2, temperature=1.0, mixing=0.0, alpha=0.3
    )  # fmt: skip


def run(across: Across = Across.STEP, **series: Sequence[float]) -> Run:
    return Run(
        across=across,
        series={f"student/{name.replace('__', '/')}": readings(values) for name, values in series.items()},
        epochs=(epoch(1, 4), epoch(2, 10)),
        tokens=cumulative(readings([100.0, 50.0, 100.0, 50.0])),
        ends={1: 2, 2: 4},
    )


def traces(made: go.Figure) -> dict[str, Any]:
    return {trace["name"]: trace for trace in made.to_plotly_json()["data"]}


@pytest.mark.parametrize(
    ("across", "places"),
    [(Across.STEP, [1, 2, 3, 4]), (Across.TOKENS, [100.0, 150.0, 250.0, 300.0]), (Across.TIME, [0.0, 1.0, 2.0, 3.0])],
)
def test_a_loss_goes_by_steps_tokens_or_time(across: Across, places: list[float]) -> None:
    made = traces(live_figures.loss(run(across, loss=[4.0, 3.0, 2.0, 1.0], ce=[1.0] * 4, kd=[2.0] * 4)))

    assert list(made["training loss"]["x"]) == places
    assert list(made["training loss"]["y"]) == [4.0, 3.0, 2.0, 1.0]


def test_a_validation_stands_where_its_epoch_ended() -> None:
    made = traces(live_figures.loss(run(loss=[4.0, 3.0, 2.0, 1.0], validation__ce=[2.5, 1.5])))

    assert (list(made["validation"]["x"]), list(made["validation"]["y"])) == ([2, 4], [2.5, 1.5])


def test_the_share_of_samples_is_a_stair_that_reaches_the_last_step() -> None:
    made = traces(live_figures.course(run(mixing=[0.0, 0.0, 0.5], temperature=[1.0, 1.0, 2.0], alpha=[0.3] * 3)))

    assert (list(made["share k/N"]["x"]), list(made["share k/N"]["y"])) == ([0, 2, 3], [0.4, 1.0, 1.0])
    assert made["share k/N"]["line"]["shape"] == "hv"


def test_memory_is_told_in_gibibytes() -> None:
    made = traces(live_figures.speed(run(tokens_per_s=[10.0], learning_rate=[1e-3], memory_bytes=[2.0**31])))

    assert list(made["memory"]["y"]) == [2.0]


def test_a_run_of_one_reading_is_drawn_in_every_way() -> None:
    one = {"loss": [1.0], "mixing": [0.0], "tokens_per_s": [1.0]}
    for across in Across:
        for draw in (live_figures.loss, live_figures.course, live_figures.speed):
            assert draw(run(across, **one)).to_plotly_json()["layout"]["meta"]["title"]
