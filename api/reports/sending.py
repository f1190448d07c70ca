"""A report as an HTTP answer."""

from __future__ import annotations

from fastapi import Request, Response

from api.downloads import Content, send
from api.reports.html import POLICY


def answer(request: Request, report: Content) -> Response:
    """The file, shown and not saved by a browser, which loads and runs nothing should anything in it ever pass for markup."""
    response = send(request, report)
    response.headers["content-security-policy"] = f"{POLICY}; sandbox"
    response.headers["x-content-type-options"] = "nosniff"
    return response
