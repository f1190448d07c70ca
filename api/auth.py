"""Who asks, and may they: the bearer key of a request against the scope that a route needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.core.errors import InsufficientScope, InvalidApiKey, MissingApiKey, RateLimited
from api.deps import resources
from api.keys import service
from api.keys.schemas import Identity, Scope

BEARER = HTTPBearer(
    scheme_name="ApiKey",
    bearerFormat="cpd_<prefix>_<secret>",
    description="A key of `cpd keys create`.",
    auto_error=False,
)


def requires(scope: Scope) -> Callable[..., Identity]:
    """A dependency that gives the caller's identity where the key has `scope`.

    Raises MissingApiKey, InvalidApiKey, InsufficientScope and RateLimited.
    """

    def identify(
        request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)]
    ) -> Identity:
        known = resources(request)
        if credentials is None:
            raise MissingApiKey
        with known.reading() as session:
            identity = service.identify(session, credentials.credentials)
        if identity is None:
            raise InvalidApiKey
        if not identity.may(scope):
            raise InsufficientScope(f"This call needs a key with the scope '{scope}'.")
        wait_s = known.rates.wait_s(identity.prefix)
        if wait_s > 0:
            raise RateLimited(retry_after_s=wait_s)
        return identity

    return identify


Reader = Annotated[Identity, Depends(requires("read"))]
Writer = Annotated[Identity, Depends(requires("write"))]
