"""The dashboard's routes: those of its parts, and log-in, log-out and files that belong to none."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from api.core.errors import InvalidApiKey
from api.deps import Known
from api.web import analysis, assets, comparing, comparison_pages, dataset_pages, jobs, sessions, submission, trying
from api.web.pages import PageRoute, local_path, page, redirect
from api.web.visits import COOKIE, Leaver, SentForm

# Not part of the API: the description at /openapi.json is for programs.
router = APIRouter(include_in_schema=False, route_class=PageRoute)

# Its address would be a comparison's, if that came first.
for part in (jobs, analysis, comparing, comparison_pages, dataset_pages, submission, trying):
    router.include_router(part.router)

Way = Annotated[str, Query(alias="next", max_length=2000)]


@router.get("/login")
def show_log_in(request: Request, way: Way = "/") -> Response:
    """The form that takes a key."""
    return page(request, "login.html", next=local_path(way), refused=False)


@router.post("/login")
def log_in(request: Request, known: Known, form: SentForm) -> Response:
    """Give the browser a session for the key, and lead on."""
    way = local_path(form.get("next", "/"))
    try:
        with known.writing() as session:
            token = sessions.open_session(session, form.get("key", "").strip())
    except InvalidApiKey as error:
        return page(request, "login.html", status=error.status, next=way, refused=True)
    answer = redirect(way)
    answer.set_cookie(
        COOKIE,
        token,
        max_age=sessions.KEEP_S,
        httponly=True,
        samesite="strict",
        # Over plain HTTP, as on a machine of one's own, a browser would not keep it otherwise.
        secure=request.url.scheme == "https",
    )
    return answer


@router.post("/logout")
def log_out(request: Request, known: Known, _visit: Leaver) -> Response:
    """End the session, here and in the browser."""
    with known.writing() as session:
        sessions.close_session(session, request.cookies[COOKIE])
    answer = redirect("/login")
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=request.url.scheme == "https")
    return answer


@router.get("/static/{name}")
@router.head("/static/{name}")
def get_asset(
    request: Request, name: str, version: Annotated[str | None, Query(alias="v", max_length=64)] = None
) -> Response:
    """A style sheet, a script or a picture; no row of anyone's, so nobody is asked who they are."""
    return send_asset(request, assets.asset(name), version)


def send_asset(request: Request, found: assets.Asset, version: str | None) -> Response:
    """The file, packed where the browser takes that; kept by it for good under the address that names its content."""
    known_for_good = version is not None and found.sha256.startswith(version) and len(version) >= 16
    headers = {
        "etag": f'"{found.sha256}"',
        "vary": "accept-encoding",
        "cache-control": "public, max-age=31536000, immutable" if known_for_good else "no-cache",
    }
    if request.headers.get("if-none-match") == headers["etag"]:
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(found.packed, headers=headers | {"content-encoding": "gzip"}, media_type=found.media_type)
    return Response(found.content, headers=headers, media_type=found.media_type)
