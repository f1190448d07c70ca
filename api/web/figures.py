"""What all figures share: one palette, axes that name their units, and their form as plotly's JSON.

A figure says nothing of its ground, font or grid: whoever mounts it lays the page's theme over it, dark or light.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go
from pydantic import BaseModel, ConfigDict

# Okabe and Ito's hues, told apart by colour-blind people, at a lightness that stands out 3:1 from white and from near-black alike.
BLUE, VERMILION, GREEN, PURPLE, OCHRE, GREY = "#3d7fc4", "#d55e00", "#009e73", "#c66f9c", "#b87700", "#808080"
PALETTE = (BLUE, VERMILION, GREEN, PURPLE, OCHRE, GREY)
# Never by colour alone.
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x")
HEAD = 120


class FigureView(BaseModel):
    """A figure as plotly.js takes it. `layout.meta.title` names it and `layout.meta.description` says what it shows."""

    model_config = ConfigDict(frozen=True)

    data: list[dict[str, Any]]
    layout: dict[str, Any]


def figure(
    traces: Sequence[go.Scatter | go.Bar], *, title: str, description: str, height: int, **layout: Any
) -> go.Figure:
    """Traces on axes, `height` pixels high and as wide as its place. Raises ValueError for what plotly does not know."""
    shared: dict[str, Any] = {
        # An empty one: plotly's own, of 13 kB, would set a white ground.
        "template": {},
        "meta": {"title": title, "description": description},
        "height": height,
        "margin": {"l": 56, "r": 16, "t": 16, "b": 48},
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        "hovermode": "closest",
    }
    return go.Figure(list(traces), shared | layout)


def axis(title: str, **more: Any) -> dict[str, Any]:
    """An axis named for what it counts, with its unit."""
    return {"title": {"text": title}, "automargin": True, "zeroline": False, **more}


def shaded(colour: str, opacity: float) -> str:
    """A colour of the palette, let through."""
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:.3g})"


def head(text: str, length: int = HEAD) -> str:
    """The beginning of a user's text on one line, with nothing in it that plotly takes for markup."""
    line = " ".join(text.split())
    return escape(line if len(line) <= length else f"{line[: length - 1]}…", quote=False)


def view(made: go.Figure) -> FigureView:
    """A figure on the wire."""
    plain = made.to_plotly_json()
    return FigureView(data=list(plain["data"]), layout=dict(plain["layout"]))
