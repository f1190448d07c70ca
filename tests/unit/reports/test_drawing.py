"""Figures as SVG: where things lie, and that text stays text."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

import pytest

from api.reports.blocks import Picture
from api.reports.scales import Scale, extent, written
from api.reports.svg import NARROW_PX, WIDE_PX, draw
from api.web.figures import view
from tests.unit.web.test_figures import FIGURES

Tree = ET.Element
META = {"title": "Scores", "description": "Means & intervals <of> all."}


def drawn(data: list[dict[str, Any]], **layout: Any) -> list[Tree]:
    """The wide and the narrow drawing."""
    picture = Picture(data=data, layout={"meta": META, "height": 300, "margin": {"t": 16, "b": 48}} | layout)
    return list(ET.fromstring(f"<both>{draw(picture)}</both>"))


def markers(drawing: Tree) -> list[tuple[float, float]]:
    return [(float(found.attrib["cx"]), float(found.attrib["cy"])) for found in drawing.iter("circle")]


def texts(drawing: Tree) -> list[str]:
    return [found.text or "" for found in drawing.iter("text")]


def test_there_is_one_for_a_wide_and_one_for_a_narrow_page() -> None:
    wide, narrow = drawn([{"type": "scatter", "mode": "lines", "x": [0, 1], "y": [1, 2]}])

    assert [float(one.attrib["viewBox"].split()[2]) for one in (wide, narrow)] == [WIDE_PX, NARROW_PX]
    assert wide.attrib["aria-label"] == "Scores. Means & intervals <of> all."


def test_points_lie_where_their_values_are_and_errors_reach_as_far_as_they_say() -> None:
    errors = {"type": "data", "symmetric": False, "array": [10.0, 0.0], "arrayminus": [5.0, 0.0]}
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": [10.0, 30.0],
        "y": ["b", "a"],
        "error_x": errors,
        "marker": {"color": "#123456"},
    }
    wide, _ = drawn(
        [trace], yaxis={"categoryarray": ["a", "b"], "range": [1.5, -0.5], "type": "category"}, xaxis={"range": [0, 40]}
    )
    (x1, y1), (x2, y2) = markers(wide)
    bar = next(one for one in wide.iter("line") if one.attrib.get("stroke") == "#123456")

    assert y2 < y1, "the first category stands above"
    step = (x2 - x1) / 20.0
    assert float(bar.attrib["x1"]) == pytest.approx(x1 - 5 * step, abs=0.2)
    assert float(bar.attrib["x2"]) == pytest.approx(x1 + 10 * step, abs=0.2)


def test_bars_stand_on_zero_and_are_stacked_where_they_should_be() -> None:
    bars = [
        {"type": "bar", "orientation": "h", "y": ["one", "two"], "x": [3, 1], "name": name, "marker": {"color": colour}}
        for name, colour in (("lost", "#aa0000"), ("kept", "#00aa00"))
    ]
    wide, _ = drawn(bars, barmode="stack", yaxis={"autorange": "reversed"})
    boxes = [(one.attrib["fill"], float(one.attrib["x"]), float(one.attrib["width"])) for one in wide.iter("rect")]
    lost, kept = ([box for box in boxes if box[0] == colour] for colour in ("#aa0000", "#00aa00"))

    assert lost[0][1] == lost[1][1]
    assert [start for _, start, _ in kept] == pytest.approx([start + width for _, start, width in lost], abs=0.2)
    assert lost[0][2] == pytest.approx(3 * lost[1][2], abs=0.5)
    assert {"lost", "kept"} <= set(texts(wide))


def test_what_figures_have_escaped_for_plotly_is_shown_as_it_was_written_and_runs_nothing() -> None:
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": [1],
        "y": ["&lt;script&gt; &amp; <b>x</b>"],
        "marker": {"color": "red"},
    }
    wide, _ = drawn([trace])

    assert "<script> & <b>x</b>" in texts(wide)
    assert {one.tag for one in wide.iter()} <= {"svg", "line", "text", "circle"}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_of_the_service_can_be_drawn_inside_of_its_drawing(name: str) -> None:
    made = view(FIGURES[name]())
    picture = Picture(data=made.data, layout=made.layout)
    wide, narrow = ET.fromstring(f"<both>{draw(picture)}</both>")

    for drawing in (wide, narrow):
        width, height = (float(value) for value in drawing.attrib["viewBox"].split()[2:])
        assert texts(drawing)
        for mark in drawing.iter():
            for way, most in (("x", width), ("y", height)):
                for name in (way, f"{way}1", f"{way}2", f"c{way}"):
                    assert -1.0 <= float(mark.attrib.get(name, 0.0)) <= most + 1.0, (mark.tag, mark.attrib)


def test_a_kind_of_trace_that_no_figure_has_is_refused() -> None:
    with pytest.raises(ValueError, match="pie"):
        drawn([{"type": "pie", "x": [1], "y": [1]}])
    with pytest.raises(TypeError, match="lists of values"):
        drawn([{"type": "scatter", "x": {"bdata": "AA=="}, "y": [1]}])


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0.0, 1.0, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (0.0, 12.0, ["0.0", "2.5", "5.0", "7.5", "10.0"]),
        (-3.0, 3.0, ["−2", "0", "2"]),
    ],
)
def test_ticks_are_round(low: float, high: float, labels: list[str]) -> None:
    scale = Scale(low=low, high=high, first_px=0.0, last_px=100.0)

    assert [label for _, label in scale.ticks(5 if low == 0 else 4)] == labels


@pytest.mark.parametrize(
    ("value", "style", "text"),
    [(12000, "~s", "12k"), (2.5e6, "~s", "2.5M"), (0, "~s", "0"), (3.0, "d", "3"), (0.25, ".0%", "25 %")],
)
def test_numbers_are_written_as_an_axis_wants_them(value: float, style: str, text: str) -> None:
    assert written(value, 1.0, style) == text


def test_an_axis_of_one_value_has_room_around_it() -> None:
    assert extent([5.0], from_zero=False)[0] < 5.0 < extent([5.0], from_zero=False)[1]
    assert extent([0.0], from_zero=True)[1] > 0.0
    assert extent([1.0, 3.0], from_zero=True)[0] == 0.0
