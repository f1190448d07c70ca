"""A figure of plotly's JSON as SVG, once for a wide and once for a narrow page: what the project's own figures are made of, no more.

So a report needs no script and no library of five megabytes, prints sharply, and takes the page's colours, dark or light.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape, unescape
from typing import Any

from api.reports.blocks import Picture
from api.reports.marks import LETTER_PX, line, marker, px, text
from api.reports.panels import Panel, panels_of
from api.reports.traces import trace_marks

WIDE_PX, NARROW_PX = 860, 350
_LEGEND_PX = 20
_TITLE_PX = 34


# On a page once, before every drawing: what is not shown itself lends no pattern to others.
PATTERNS = (
    '<svg class="patterns" width="0" height="0" aria-hidden="true"><defs><pattern id="hatched" width="6" height="6" '
    'patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><line x1="0" y1="0" x2="0" y2="6" class="hatch"/></pattern></defs></svg>'
)


def draw(picture: Picture) -> str:
    """Two drawings, of which the page's style shows the one that fits. Raises ValueError for a kind of trace that no figure has."""
    return _drawing(picture, WIDE_PX, "wide") + _drawing(picture, NARROW_PX, "narrow")


def _drawing(picture: Picture, width: float, kind: str) -> str:
    named, legend_px = _legend(picture, width)
    height = float(picture.layout.get("height", 400)) + legend_px - _unused(picture)
    found = panels_of(picture, width=width, height=height, above=legend_px)
    drawn = [
        *(piece for panel in found for piece in _frame(panel)),
        *(piece for trace in picture.data for piece in trace_marks(trace, _panel(found, trace), picture)),
        *(_shape(shape, found) for shape in picture.layout.get("shapes") or ()),
        *(_note(note, found) for note in picture.layout.get("annotations") or ()),
    ]
    label = escape(f"{picture.title}. {picture.description}")
    return (
        f'<svg class="{kind}" viewBox="0 0 {px(width)} {px(height)}" role="img" aria-label="{label}">'
        f"{named}{''.join(drawn)}</svg>"
    )


def _unused(picture: Picture) -> float:
    """What a figure leaves above and below itself for a legend and for titles that stand elsewhere here."""
    margin = picture.layout.get("margin") or {}
    return max(0.0, float(margin.get("t", 16)) - 22.0)


def _panel(panels: Sequence[Panel], trace: Mapping[str, Any]) -> Panel:
    """The panel that a trace lies in; it is known by its axes."""
    names = trace.get("xaxis") or "x", trace.get("yaxis") or "y"
    return next(
        (panel for panel in panels if (panel.x_name, panel.y_name) == names),
        next((panel for panel in panels if panel.y_name == names[1]), panels[0]),
    )


def _frame(panel: Panel) -> list[str]:
    """Grid, numbers and names of a panel's axes."""
    drawn = []
    for value, label in panel.x_ticks:
        at = panel.x.at(value)
        drawn += [line(at, panel.top, at, panel.bottom, kind="grid"), text(at, panel.bottom + 16, label, kind="tick")]
    for value, label in panel.y_ticks:
        at = panel.y.at(value)
        drawn += [
            line(panel.left, at, panel.right, at, kind="grid"),
            text(panel.left - 8, at + 4, label, anchor="end", kind="tick"),
        ]
    drawn.append(line(panel.left, panel.bottom, panel.right, panel.bottom, kind="axis"))
    if LETTER_PX * len(panel.x_title) > panel.right - panel.left:
        drawn.append(text(panel.right, panel.bottom + _TITLE_PX, panel.x_title, anchor="end", kind="name"))
    elif panel.x_title:
        drawn.append(text((panel.left + panel.right) / 2, panel.bottom + _TITLE_PX, panel.x_title, kind="name"))
    if panel.y_title:
        drawn.append(text(12, (panel.top + panel.bottom) / 2, panel.y_title, kind="name", turned=True))
    return drawn


def _legend(picture: Picture, width: float) -> tuple[str, float]:
    """Names of traces with their marks, line by line, and the height that they take."""
    shown = [] if picture.layout.get("showlegend") is False else _named(picture.data)
    if len(shown) < 2:
        return "", 0.0
    pieces, x, y = [], 4.0, 14.0
    for trace in shown:
        name = unescape(str(trace["name"]))
        size = 26 + LETTER_PX * len(name) + 14
        if x + size > width and x > 4.0:
            x, y = 4.0, y + _LEGEND_PX
        pieces += [_key(trace, x + 9, y - 4), text(x + 22, y, str(trace["name"]), anchor="start", kind="tick")]
        x += size
    return "".join(pieces), y + 8


def _named(data: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    groups: set[object] = set()
    found = []
    for trace in data:
        group = trace.get("legendgroup") or trace.get("name")
        if trace.get("showlegend") is False or not trace.get("name") or group in groups:
            continue
        groups.add(group)
        found.append(trace)
    return found


def _key(trace: Mapping[str, Any], x: float, y: float) -> str:
    if trace["type"] == "bar":
        return marker(x, y, "square", 12, str(trace["marker"]["color"]))
    style, mode = trace.get("line") or {}, str(trace.get("mode") or "lines")
    colour = str((trace.get("marker") or style).get("color", "currentColor"))
    drawn = ""
    if "lines" in mode and style.get("width") != 0:
        drawn = line(
            x - 9, y, x + 9, y, colour=str(style.get("color", colour)), width=2, dash=str(style.get("dash") or "")
        )
    if "markers" in mode:
        drawn += marker(x, y, str(trace["marker"].get("symbol") or "circle"), 8, colour)
    return drawn or marker(x, y, "square", 10, str(trace.get("fillcolor") or colour))


def _shape(shape: Mapping[str, Any], panels: Sequence[Panel]) -> str:
    if shape.get("type") != "line":
        raise ValueError(f"figures of reports have lines as shapes, and no {shape.get('type')!r}")
    style = shape.get("line") or {}
    ends = [_place(shape, panels, f"x{end}", f"y{end}") for end in (0, 1)]
    return line(
        *ends[0],
        *ends[1],
        colour=str(style.get("color", "currentColor")),
        width=float(style.get("width", 1)),
        dash=str(style.get("dash") or ""),
    )


def _note(note: Mapping[str, Any], panels: Sequence[Panel]) -> str:
    x, y = _place(note, panels, "x", "y")
    anchor = {"left": "start", "right": "end"}.get(str(note.get("xanchor")), "middle")
    return text(x + (4 if anchor == "start" else 0), y - 4, str(note["text"]), anchor=anchor, kind="tick")


def _place(thing: Mapping[str, Any], panels: Sequence[Panel], x_field: str, y_field: str) -> tuple[float, float]:
    """In pixels, whether it is told in an axis's values or as a share of its length or of the whole."""
    x_ref, y_ref = str(thing.get("xref") or "x"), str(thing.get("yref") or "y")
    names = x_ref.removesuffix(" domain"), y_ref.removesuffix(" domain")
    panel = next(
        (one for one in panels if names[0] in ("paper", one.x_name) and names[1] in ("paper", one.y_name)), panels[0]
    )
    x, y = thing[x_field], thing[y_field]
    across = (
        panel.left + float(x) * (panel.right - panel.left)
        if x_ref == "paper" or x_ref.endswith("domain")
        else panel.x.at(x)
    )
    down = (
        panel.bottom + float(y) * (panel.top - panel.bottom)
        if y_ref == "paper" or y_ref.endswith("domain")
        else panel.y.at(y)
    )
    return across, down
