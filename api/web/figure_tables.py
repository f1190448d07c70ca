"""A figure's numbers as tables, for who cannot see it or would rather copy them. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from typing import Any

from api.web.figures import FigureView

_ROWS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberTable:
    """One line or group of marks: the names of its axes and its points. `left_out` points are not among `rows`."""

    name: str
    columns: tuple[str, str]
    rows: tuple[tuple[Any, Any], ...]
    left_out: int


def tables(figure: FigureView) -> list[NumberTable]:
    """What a figure shows, trace by trace; areas without values of their own are left out."""
    return list(_tables(figure))


def _tables(figure: FigureView) -> Iterator[NumberTable]:
    for trace in figure.data:
        if trace.get("fill") is not None:
            continue
        points = [(x, y) for x, y in zip(trace.get("x", ()), trace.get("y", ()), strict=False) if x is not None]
        columns = (_title(figure, "x", trace), _title(figure, "y", trace))
        shown = tuple((_plain(x), _plain(y)) for x, y in points[:_ROWS])
        yield NumberTable(
            name=_plain(trace.get("name", "")), columns=columns, rows=shown, left_out=len(points) - len(shown)
        )


def _title(figure: FigureView, letter: str, trace: dict[str, Any]) -> str:
    name = trace.get(f"{letter}axis", letter).replace(letter, f"{letter}axis", 1)
    return str(figure.layout.get(name, {}).get("title", {}).get("text", ""))


def _plain(value: Any) -> Any:
    return unescape(value) if isinstance(value, str) else value
