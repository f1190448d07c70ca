"""What stands in a drawing: lines, markers, bars and text as pieces of SVG. Every text is escaped here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape, unescape

LETTER_PX = 6.7
_DASHES = {"dash": "6 4", "dot": "2 3", "dashdot": "6 3 2 3"}
Point = tuple[float, float]


def px(value: float) -> str:
    """A coordinate, to a tenth of a pixel."""
    return f"{value:.1f}".removesuffix(".0")


def text(x: float, y: float, words: str, *, anchor: str = "middle", kind: str = "", turned: bool = False) -> str:
    """`words` as plotly's JSON has them, in which `&lt;` is a lesser sign: that is undone, and done again for SVG."""
    turn = f' transform="rotate(-90 {px(x)} {px(y)})"' if turned else ""
    named = f' class="{kind}"' if kind else ""
    return f'<text x="{px(x)}" y="{px(y)}" text-anchor="{anchor}"{named}{turn}>{escape(unescape(words), quote=False)}</text>'


def line(
    x1: float, y1: float, x2: float, y2: float, *, kind: str = "", colour: str = "", width: float = 1.0, dash: str = ""
) -> str:
    """A straight line, of a class of the page's or in its own colour."""
    look = f' class="{kind}"' if kind else f' stroke="{escape(colour)}" stroke-width="{width:g}"{_dashed(dash)}'
    return f'<line x1="{px(x1)}" y1="{px(y1)}" x2="{px(x2)}" y2="{px(y2)}"{look}/>'


def path(runs: Sequence[Sequence[Point]], *, colour: str, width: float, dash: str = "") -> str:
    """Lines through points, a run after the other."""
    moves = "".join("M" + "L".join(f"{px(x)} {px(y)}" for x, y in run) for run in runs if run)
    return f'<path d="{moves}" fill="none" stroke="{escape(colour)}" stroke-width="{width:g}" stroke-linejoin="round"{_dashed(dash)}/>'


def area(points: Sequence[Point], ground: float, colour: str) -> str:
    """What lies between a line and the height `ground`."""
    outline = [(points[0][0], ground), *points, (points[-1][0], ground)]
    return f'<path d="M{"L".join(f"{px(x)} {px(y)}" for x, y in outline)}Z" fill="{escape(colour)}" stroke="none"/>'


def box(x1: float, y1: float, x2: float, y2: float, colour: str, pattern: str = "") -> str:
    """A bar between two corners, perhaps with a pattern over it, as colour alone tells too little."""
    left, top, width, height = min(x1, x2), min(y1, y2), abs(x2 - x1), abs(y2 - y1)
    shape = f'x="{px(left)}" y="{px(top)}" width="{px(width)}" height="{px(height)}"'
    over = f'<rect {shape} fill="url(#hatched)"/>' if pattern else ""
    return f'<rect {shape} fill="{escape(colour)}"/>{over}'


def marker(x: float, y: float, symbol: str, size: float, colour: str) -> str:
    """A marker of plotly's by name, `-open` where it is an outline."""
    open_, name, half = symbol.endswith("-open"), symbol.removesuffix("-open"), size / 2
    look = f'fill="none" stroke="{escape(colour)}" stroke-width="1.5"' if open_ else f'fill="{escape(colour)}"'
    if name == "circle":
        return f'<circle cx="{px(x)}" cy="{px(y)}" r="{half:g}" {look}/>'
    points = " ".join(f"{px(x + half * dx)},{px(y + half * dy)}" for dx, dy in _OUTLINES[name])
    return f'<polygon points="{points}" {look}/>'


def _cross(turn: float) -> tuple[Point, ...]:
    """A plus sign, turned by an angle."""
    thin, long = 0.35, 1.1
    corners = [(thin, long), (thin, thin), (long, thin)]
    found = []
    for quarter in range(4):
        angle = turn - quarter * math.pi / 2
        for x, y in corners:
            found.append((x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle)))
    return tuple(found)


_OUTLINES: dict[str, tuple[Point, ...]] = {
    "square": ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    "diamond": ((0.0, -1.2), (1.2, 0.0), (0.0, 1.2), (-1.2, 0.0)),
    "triangle-up": ((0.0, -1.15), (1.1, 0.85), (-1.1, 0.85)),
    "cross": _cross(0.0),
    "x": _cross(math.pi / 4),
}


def _dashed(dash: str) -> str:
    return f' stroke-dasharray="{_DASHES[dash]}"' if dash in _DASHES else ""
