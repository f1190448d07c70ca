"""The traces of a figure as pieces of SVG in their panel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from api.reports.blocks import Picture
from api.reports.marks import LETTER_PX, Point, area, box, line, marker, path, text
from api.reports.panels import Panel, bar_widths, numbers

_CAP_PX = 4.0


def trace_marks(trace: Mapping[str, Any], panel: Panel, picture: Picture) -> Iterator[str]:
    """Raises ValueError for a kind that no figure of a report has."""
    match trace["type"]:
        case "scatter":
            yield from _scatter(trace, panel)
        case "bar":
            yield from _bars(trace, panel, picture)
        case other:
            raise ValueError(f"figures of reports have lines, markers and bars, and no {other!r}")


def _scatter(trace: Mapping[str, Any], panel: Panel) -> Iterator[str]:
    mode, style = str(trace.get("mode") or "lines"), trace.get("line") or {}
    runs = list(_runs(trace, panel))
    if trace.get("fill") == "tozeroy":
        yield from (area(run, panel.y.at(0.0), str(trace["fillcolor"])) for run in runs if run)
    width = float(style.get("width", 2))
    if "lines" in mode and width:
        shaped = [_shaped(run, str(style.get("shape") or "linear")) for run in runs]
        yield path(
            shaped, colour=str(style.get("color", "currentColor")), width=width, dash=str(style.get("dash") or "")
        )
    yield from _errors(trace, panel)
    look = trace.get("marker") or {}
    points = [point for run in runs for point in run]
    if "markers" in mode:
        symbol, size = str(look.get("symbol") or "circle"), float(look.get("size") or 6)
        colour = str(look.get("color") or style.get("color") or "currentColor")
        yield from (marker(x, y, symbol, size, colour) for x, y in points)
    if "text" in mode:
        labels = numbers(trace.get("text"))
        yield from (
            text(x - 8, y - 7, str(label), anchor="end", kind="tick")
            for (x, y), label in zip(points, labels, strict=False)
        )


def _runs(trace: Mapping[str, Any], panel: Panel) -> Iterator[list[Point]]:
    """Points in pixels, a new run behind every gap."""
    run: list[Point] = []
    for x, y in zip(numbers(trace.get("x")), numbers(trace.get("y")), strict=True):
        if x is None or y is None:
            yield run
            run = []
        else:
            run.append((panel.x.at(x), panel.y.at(y)))
    yield run


def _shaped(run: list[Point], shape: str) -> list[Point]:
    """A run as stairs, where it is one."""
    if shape == "linear" or len(run) < 2:
        return run
    stairs = [run[0]]
    for (x1, y1), (x2, y2) in pairwise(run):
        match shape:
            case "hv":
                stairs += [(x2, y1), (x2, y2)]
            case "vh":
                stairs += [(x1, y2), (x2, y2)]
            case _:
                middle = (x1 + x2) / 2
                stairs += [(middle, y1), (middle, y2), (x2, y2)]
    return stairs


def _errors(trace: Mapping[str, Any], panel: Panel) -> Iterator[str]:
    colour = str((trace.get("marker") or trace.get("line") or {}).get("color", "currentColor"))
    for way in ("x", "y"):
        bars = trace.get(f"error_{way}") or {}
        above = numbers(bars.get("array"))
        below = numbers(bars.get("arrayminus")) or above
        for x, y, more, less in zip(numbers(trace.get("x")), numbers(trace.get("y")), above, below, strict=False):
            if way == "x":
                at = panel.y.at(y)
                ends = panel.x.at(x - less), panel.x.at(x + more)
                yield line(ends[0], at, ends[1], at, colour=colour, width=2)
                yield from (line(end, at - _CAP_PX, end, at + _CAP_PX, colour=colour, width=2) for end in ends)
            else:
                at = panel.x.at(x)
                ends = panel.y.at(y - less), panel.y.at(y + more)
                yield line(at, ends[0], at, ends[1], colour=colour, width=2)
                yield from (line(at - _CAP_PX, end, at + _CAP_PX, end, colour=colour, width=2) for end in ends)


def _bars(trace: Mapping[str, Any], panel: Panel, picture: Picture) -> Iterator[str]:
    lying = trace.get("orientation") == "h"
    places, lengths = ("y", "x") if lying else ("x", "y")
    look = trace.get("marker") or {}
    colour, pattern = str(look.get("color", "currentColor")), str((look.get("pattern") or {}).get("shape") or "")
    labels = numbers(trace.get("text"))
    for number, (place, length, width) in enumerate(
        zip(numbers(trace.get(places)), numbers(trace.get(lengths)), bar_widths(trace, places), strict=True)
    ):
        base = _below(trace, number, lengths, picture)
        along, across = (panel.x, panel.y) if lying else (panel.y, panel.x)
        middle = across.categories.index(place) if isinstance(place, str) else float(place)
        sides = across.at(middle - width / 2), across.at(middle + width / 2)
        ends = along.at(base), along.at(base + float(length))
        corners = (ends[0], sides[0], ends[1], sides[1]) if lying else (sides[0], ends[0], sides[1], ends[1])
        yield box(*corners, colour, pattern)
        if number < len(labels) and lying and abs(ends[1] - ends[0]) > LETTER_PX * (len(str(labels[number])) + 1):
            yield text(sum(ends) / 2, sum(sides) / 2 + 4, str(labels[number]), kind="inside")


def _below(trace: Mapping[str, Any], number: int, lengths: str, picture: Picture) -> float:
    """Where a bar begins: on what the traces before it have stacked there."""
    if picture.layout.get("barmode") != "stack":
        return 0.0
    before = picture.data[: next(at for at, one in enumerate(picture.data) if one is trace)]
    return float(sum(numbers(one.get(lengths))[number] for one in before if one["type"] == "bar"))
