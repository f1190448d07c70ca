"""A figure as a page's script fetches it, or as a page of its numbers."""

from __future__ import annotations

from typing import Literal

from fastapi import Request, Response

from api.web.figure_tables import tables
from api.web.figures import FigureView
from api.web.pages import page
from api.web.sessions import Visit


def answer(request: Request, visit: Visit, made: FigureView, *, form: Literal["table"] | None, back: str) -> Response:
    """JSON, or with `as=table` a page that leads back to where the figure stands."""
    if form is None:
        return Response(made.model_dump_json(), media_type="application/json")
    return page(request, "figure_table.html", visit=visit, meta=made.layout["meta"], tables=tables(made), back=back)
