"""Who looks at a page, and whether a form may act: the cookie of a log-in, and the token that only pages of ours know."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Annotated
from urllib.parse import parse_qsl, urlsplit

from fastapi import Depends, Request

from api.bodies import media_type, read_whole
from api.core.errors import (
    InsufficientScope,
    MissingApiKey,
    RateLimited,
    ServiceError,
    UnsupportedMediaType,
    ValidationFailed,
)
from api.deps import resources
from api.keys.schemas import Scope
from api.web import sessions
from api.web.sessions import Visit

COOKIE = "cpd_session"
TOKEN_FIELD = "form_token"  # noqa: S105 - the field's name
FORM_BYTES = 256 * 1024
FORM_FIELDS = 100

Form = dict[str, str]


class ForeignForm(ServiceError):
    """A form that may be somebody else's doing in the name of who has logged in."""

    status = 403
    type = "permission_error"
    code = "foreign_form"
    default = "The form was not sent by a page of this log-in. Open the page again and repeat what you did."


def visits(scope: Scope) -> Callable[[Request], Visit]:
    """A dependency that gives the visit of a log-in whose key has `scope`.

    Raises MissingApiKey, InsufficientScope and RateLimited.
    """

    def visit(request: Request) -> Visit:
        known = resources(request)
        token = request.cookies.get(COOKIE)
        if token is None:
            raise MissingApiKey("Log in with an API key.")
        with known.reading() as session:
            found = sessions.visit(session, token)
        if found is None:
            raise MissingApiKey("The log-in is over: log in again.")
        if not found.identity.may(scope):
            raise InsufficientScope(f"This needs a key with the scope '{scope}'.")
        wait_s = known.rates.wait_s(found.identity.prefix)
        if wait_s > 0:
            raise RateLimited(retry_after_s=wait_s)
        return found

    return visit


Visitor = Annotated[Visit, Depends(visits("read"))]


async def sent_form(request: Request) -> Form:
    """The fields of a form that a page of this origin sent; of a field that comes twice the last.

    Raises ForeignForm, UnsupportedMediaType, BodyTooLarge, BodyTimeout and ValidationFailed.
    """
    refuse_foreign(request)
    if media_type(request) != "application/x-www-form-urlencoded":
        raise UnsupportedMediaType("Send a form, with content-type: application/x-www-form-urlencoded.")
    settings = resources(request).settings
    raw = await read_whole(request, limit=FORM_BYTES, timeout_s=settings.body_timeout_s)
    try:
        return dict(parse_qsl(raw.decode(), keep_blank_values=True, max_num_fields=FORM_FIELDS, errors="strict"))
    except ValueError:
        raise ValidationFailed(
            f"A form is text in UTF-8 of at most {FORM_FIELDS} fields; this one could not be read."
        ) from None


def refuse_foreign(request: Request) -> None:
    """Raises ForeignForm where the browser says that a page of another origin sent the request."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        foreign = site not in ("same-origin", "none")
    else:
        # Browsers tell the site over HTTPS and on the loopback alone. A client that tells neither is no browser.
        foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
    if foreign:
        raise ForeignForm


SentForm = Annotated[Form, Depends(sent_form)]


def require_token(visit: Visit, sent: str | None) -> None:
    """Raises ForeignForm unless `sent` is the token of this log-in's forms."""
    if not hmac.compare_digest((sent or "").encode(), visit.form_token.encode()):
        raise ForeignForm


def _leaving(visit: Visitor, form: SentForm) -> Visit:
    require_token(visit, form.get(TOKEN_FIELD))
    return visit


# Who may write, by a form whose token is yet to be looked at.
Writing = Annotated[Visit, Depends(visits("write"))]


def _acting(visit: Writing, form: SentForm) -> Visit:
    require_token(visit, form.get(TOKEN_FIELD))
    return visit


# Whose form carries the token of the log-in; an actor's key may also write.
Leaver = Annotated[Visit, Depends(_leaving)]
Actor = Annotated[Visit, Depends(_acting)]
