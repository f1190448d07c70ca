"""Pages as answers: their headers, and routes whose refusals are pages too."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from api import problems
from api.core.errors import InvalidApiKey, MissingApiKey, NotFound, ServiceError
from api.web.sessions import Visit
from api.web.templating import environment

# Everything comes from here, as files; static/before-plotly.js tells how plotly lives with that.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
# `same-origin`: with `no-referrer` a browser hides the origin of our own forms as well.
HEADERS = {
    "content-security-policy": POLICY,
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
LOG_IN = "/login"


def page(
    request: Request, template: str, *, visit: Visit | None = None, status: int = 200, **values: Any
) -> HTMLResponse:
    """A page of `template`; `visit` gives it navigation and its forms their token."""
    text = environment().get_template(template).render(visit=visit, path=request.url.path, **values)
    return HTMLResponse(text, status, HEADERS)


def redirect(path: str) -> RedirectResponse:
    """303: the browser goes to `path`, a path of ours, with GET."""
    return RedirectResponse(path, 303, HEADERS)


def local_path(path: str) -> str:
    """`path` where it leads to a page of ours, else the first page: what a link brings along must not send anyone elsewhere."""
    plain = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() and "\\" not in path
    return path if plain else "/"


class PageRoute(APIRoute):
    """A route for people: who has not logged in is led there, and every other refusal is a page."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, with refusals as pages."""
        handle = super().get_route_handler()

        async def handle_as_page(request: Request) -> Response:
            try:
                return await handle(request)
            except Exception as exc:
                return refusal(request, problems.fault(exc))

        return handle_as_page


def refusal(request: Request, error: ServiceError) -> Response:
    """The way to the log-in, or a page that says what is wrong."""
    if isinstance(error, (MissingApiKey, InvalidApiKey)):
        way = str(request.url.path) + (f"?{request.url.query}" if request.url.query else "")
        back = way if request.method == "GET" else "/"
        return redirect(f"{LOG_IN}?next={quote(back, safe='')}")
    answer = page(request, "error.html", status=error.status, error=error, request_id=request.scope["cpd.request_id"])
    if error.retry_after_s is not None:
        answer.headers["retry-after"] = str(error.retry_after_s)
    return answer


def install(app: FastAPI) -> None:
    """At an address where nothing is, a browser that asks for a page gets one; whoever asks for anything else the envelope, as before."""
    told = app.exception_handlers[HTTPException]

    async def on_http(request: Request, exc: Exception) -> Response:
        if isinstance(exc, HTTPException) and exc.status_code == HTTPStatus.NOT_FOUND and _wants_page(request):
            return refusal(request, NotFound("Nothing is at this address."))
        return await cast("Awaitable[Response]", told(request, exc))

    app.add_exception_handler(HTTPException, on_http)


def _wants_page(request: Request) -> bool:
    asked = "text/html" in request.headers.get("accept", "")
    return asked and request.method in ("GET", "HEAD") and not request.url.path.startswith("/v1/")
