"""Where the panels of a figure lie in a drawing, and what their axes show. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import unescape
from itertools import pairwise
from typing import Any

from api.reports.blocks import Picture
from api.reports.marks import LETTER_PX
from api.reports.scales import Scale, Value, extent

_TICK_PX = 110
_ROW_PX = 44
_ABOVE_PX, _BELOW_PX, _FOOT_PX = 22, 44, 2
_MOST_LABEL = 0.42


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A pair of axes in pixels, with their numbers and names."""

    x_name: str
    y_name: str
    x: Scale
    y: Scale
    left: float
    right: float
    top: float
    bottom: float
    x_ticks: Sequence[tuple[Value, str]]
    y_ticks: Sequence[tuple[Value, str]]
    x_title: str
    y_title: str


def panels_of(picture: Picture, *, width: float, height: float, above: float) -> list[Panel]:
    """One for every pair of axes that traces name, `above` pixels below the drawing's upper end."""
    layout = picture.layout
    margin = layout.get("margin") or {}
    # What a figure leaves above itself is for plotly's legend, and ours has its own room; below, panels may have theirs in their domains.
    room = min(float(margin.get("t", 16)), _ABOVE_PX)
    top, bottom = above + room, height - (_BELOW_PX if _reaches_down(layout) else _FOOT_PX)
    pairs = list(
        dict.fromkeys((str(trace.get("xaxis") or "x"), str(trace.get("yaxis") or "y")) for trace in picture.data)
    )
    left = _left(picture, pairs, width)
    made = []
    for x_name, y_name in pairs:
        x_axis, y_axis = _axis(layout, x_name), _axis(layout, y_name)
        start, stop = y_axis.get("domain") or (0.0, 1.0)
        upper, lower = bottom - stop * (bottom - top), bottom - start * (bottom - top)
        x = _scale(picture, x_axis, "x", x_name, left, width - 14)
        y = _scale(picture, y_axis, "y", y_name, lower, upper)
        # Of panels that share an axis the one that it is anchored to shows it.
        owns = (x_axis.get("anchor") or y_name) == y_name
        made.append(
            Panel(
                x_name=x_name,
                y_name=y_name,
                x=x,
                y=y,
                left=left,
                right=width - 14,
                top=upper,
                bottom=lower,
                x_ticks=x.ticks(max(2, int((width - left) / _TICK_PX)), x_axis.get("tickformat")) if owns else (),
                y_ticks=_short(y.ticks(max(2, int((lower - upper) / _ROW_PX)), y_axis.get("tickformat")), left),
                x_title=_title(x_axis) if owns else "",
                y_title=_title(y_axis),
            )
        )
    return made


def numbers(values: object) -> list[Any]:
    """The values of a trace along an axis, None where it has a gap. Raises TypeError for plotly's packed arrays, which no figure has."""
    if values is None:
        return []
    if not isinstance(values, list | tuple):
        raise TypeError(f"figures of reports have lists of values, and no {type(values).__name__}")
    return list(values)


def _reaches_down(layout: Mapping[str, Any]) -> bool:
    domains = [axis.get("domain") or (0.0, 1.0) for name, axis in layout.items() if name.startswith("yaxis")]
    return any(start == 0.0 for start, _ in domains) or not domains


def base_of(trace: Mapping[str, Any], way: str) -> bool:
    """Whether a trace stands on zero along the axis `way`."""
    if trace["type"] == "bar":
        return (trace.get("orientation") == "h") == (way == "x")
    return way == "y" and trace.get("fill") == "tozeroy"


def _axis(layout: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return layout.get(f"{name[0]}axis{name[1:]}") or {}


def _title(axis: Mapping[str, Any]) -> str:
    return str((axis.get("title") or {}).get("text") or "")


def _left(picture: Picture, pairs: Sequence[tuple[str, str]], width: float) -> float:
    """Room for the longest name or number beside the panels, and for the axes' titles."""
    longest = 0
    titled = False
    for _, name in pairs:
        axis = _axis(picture.layout, name)
        titled = titled or bool(_title(axis))
        categories = _categories(picture, axis, "y", name)
        longest = max([longest, 5, *(len(unescape(label)) for label in categories)])
    return min(14 + LETTER_PX * longest, _MOST_LABEL * width) + (18 if titled else 0)


def _short(ticks: Sequence[tuple[Value, str]], left: float) -> list[tuple[Value, str]]:
    room = max(4, int((left - 10) / LETTER_PX))
    return [
        (value, label if len(unescape(label)) <= room else f"{unescape(label)[: room - 1]}…") for value, label in ticks
    ]


def _traces(picture: Picture, way: str, name: str) -> list[Mapping[str, Any]]:
    return [trace for trace in picture.data if (trace.get(f"{way}axis") or way) == name]


def _categories(picture: Picture, axis: Mapping[str, Any], way: str, name: str) -> list[str]:
    if given := axis.get("categoryarray"):
        return [str(label) for label in given]
    values = [value for trace in _traces(picture, way, name) for value in numbers(trace.get(way))]
    return list(dict.fromkeys(value for value in values if isinstance(value, str)))


def _scale(picture: Picture, axis: Mapping[str, Any], way: str, name: str, first_px: float, last_px: float) -> Scale:
    categories = _categories(picture, axis, way, name)
    if categories:
        low, high = axis.get("range") or (-0.5, len(categories) - 0.5)
        if axis.get("autorange") == "reversed":
            low, high = high, low
        return Scale(low=low, high=high, first_px=first_px, last_px=last_px, categories=categories)
    if axis.get("range"):
        low, high = (float(end) for end in axis["range"])
        return Scale(low=low, high=high, first_px=first_px, last_px=last_px)
    traces = _traces(picture, way, name)
    values = [value for trace in traces for value in _reach(trace, way)] + _stacked(picture, traces, way)
    zero = axis.get("rangemode") == "tozero" or any(base_of(trace, way) for trace in traces)
    low, high = extent(values or [0.0, 1.0], from_zero=zero)
    return Scale(low=low, high=high, first_px=first_px, last_px=last_px)


def _reach(trace: Mapping[str, Any], way: str) -> list[float]:
    """Every value that a trace reaches along an axis: its errors and the width of its bars counted."""
    values = [float(value) for value in numbers(trace.get(way)) if value is not None]
    errors = trace.get(f"error_{way}") or {}
    above, below = numbers(errors.get("array")), numbers(errors.get("arrayminus"))
    reach = values + [value + more for value, more in zip(values, above, strict=False)]
    reach += [value - less for value, less in zip(values, below or above, strict=False)]
    if trace["type"] == "bar" and not base_of(trace, way):
        halves = bar_widths(trace, way)
        reach += [value + sign * half / 2 for value, half in zip(values, halves, strict=True) for sign in (-1, 1)]
    return reach


def _stacked(picture: Picture, traces: Sequence[Mapping[str, Any]], way: str) -> list[float]:
    if picture.layout.get("barmode") != "stack":
        return []
    columns = [numbers(trace.get(way)) for trace in traces if trace["type"] == "bar" and base_of(trace, way)]
    return [float(sum(column)) for column in zip(*columns, strict=True)]


def bar_widths(trace: Mapping[str, Any], way: str) -> list[float]:
    """Of each bar, in the values of the axis that they stand along."""
    places = numbers(trace.get(way))
    given = trace.get("width")
    if isinstance(given, list | tuple):
        return [float(value) for value in given]
    if given is not None:
        return [float(given)] * len(places)
    marks = sorted({float(place) for place in places if not isinstance(place, str)})
    gaps = [after - before for before, after in pairwise(marks)]
    return [0.8 * min(gaps, default=1.0)] * len(places)
