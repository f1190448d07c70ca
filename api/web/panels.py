"""Panels one below the other: a metric each, a row a model or method, its value with an interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from api.web.figures import GREY, axis, figure

# More are too tall to look at.
PANELS = 12
_ROW_PX, _PANEL_PX, _LETTER_PX = 26, 88, 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A value in a panel with the 95 % interval around it, None where it is not known; `dots` are what it is the mean of."""

    label: str
    value: float
    interval: tuple[float, float] | None
    told: str
    colour: str
    symbol: str
    dots: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One metric: a row a mark. `lines` are values to hold them against, by name."""

    title: str
    marks: Sequence[Mark]
    lines: Mapping[str, float]


def stacked(panels: Sequence[Panel], *, title: str, description: str) -> go.Figure:
    """Panels one below the other, so that they are read on a narrow screen as well."""
    rows = max((len(panel.marks) for panel in panels), default=0)
    height = max(1, len(panels)) * (_PANEL_PX + _ROW_PX * rows)
    traces: list[go.Scatter] = []
    layout: dict[str, object] = {}
    shapes: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for number, panel in enumerate(panels, start=1):
        suffix = "" if number == 1 else str(number)
        top = 1.0 - (number - 1) / len(panels)
        # What is left below a panel holds its axis.
        bottom = 1.0 - number / len(panels) + _PANEL_PX / height * 0.85
        labels = [mark.label for mark in panel.marks]
        layout[f"xaxis{suffix}"] = axis(panel.title, anchor=f"y{suffix}", range=_range(panel))
        layout[f"yaxis{suffix}"] = {
            "domain": [bottom, top],
            "anchor": f"x{suffix}",
            "automargin": True,
            "type": "category",
            "categoryarray": labels,
            "range": [len(labels) - 0.5, -0.5],
        }
        traces += [trace for mark in panel.marks for trace in _traces(mark, suffix)]
        shapes += [_line(value, suffix) for value in panel.lines.values()]
        annotations += [_named(name, value, suffix) for name, value in panel.lines.items()]
    longest = max((len(mark.label) for panel in panels for mark in panel.marks), default=0)
    return figure(
        traces,
        title=title,
        description=description,
        height=height,
        # Categories are not seen by plotly's own margin where several axes share the height.
        margin={"l": 16 + _LETTER_PX * min(longest, 24), "r": 24, "t": 36, "b": 8},
        showlegend=False,
        shapes=shapes,
        annotations=annotations,
        **layout,
    )


def _range(panel: Panel) -> list[float] | None:
    """Lines are no data to plotly, and would lie outside."""
    ends = [
        *panel.lines.values(),
        *(value for mark in panel.marks for value in (mark.value, *mark.dots, *(mark.interval or ()))),
    ]
    if not panel.lines or not ends:
        return None
    margin = 0.08 * (max(ends) - min(ends)) or 1.0
    return [min(ends) - margin, max(ends) + margin]


def _traces(mark: Mark, suffix: str) -> list[go.Scatter]:
    place = {"xaxis": f"x{suffix}", "yaxis": f"y{suffix}", "name": mark.label}
    bars: dict[str, object] | None = None
    if mark.interval is not None:
        above, below = mark.interval[1] - mark.value, mark.value - mark.interval[0]
        bars = {"type": "data", "symmetric": False, "array": [above], "arrayminus": [below], "thickness": 2}
    dots = go.Scatter(
        x=mark.dots,
        y=[mark.label] * len(mark.dots),
        mode="markers",
        marker={"color": mark.colour, "size": 6, "symbol": "circle-open"},
        hovertemplate="one seed: %{x:.4g}<extra></extra>",
        **place,
    )
    mean = go.Scatter(
        x=[mark.value],
        y=[mark.label],
        error_x=bars,
        customdata=[mark.told],
        mode="markers",
        marker={"color": mark.colour, "size": 10, "symbol": mark.symbol},
        hovertemplate="%{customdata}<extra></extra>",
        **place,
    )
    return [dots, mean] if mark.dots else [mean]


def _line(value: float, suffix: str) -> dict[str, object]:
    place = {"xref": f"x{suffix}", "yref": f"y{suffix} domain", "x0": value, "x1": value, "y0": 0, "y1": 1}
    return {"type": "line", "line": {"color": GREY, "width": 1, "dash": "dash"}, **place}


def _named(name: str, value: float, suffix: str) -> dict[str, object]:
    place = {"xref": f"x{suffix}", "yref": f"y{suffix} domain", "x": value, "y": 1, "yanchor": "bottom"}
    return {"text": name, "showarrow": False, "font": {"size": 11}, **place}
