"""Whether what jobs may name is there: the hub, folders of models, the judge."""

from __future__ import annotations

from collections.abc import Iterator

import httpx

from api.core.settings import Settings
from api.doctor.findings import Finding, doubtful, well

_ANSWER_S = 10.0


def examined(settings: Settings) -> Iterator[Finding]:
    """Only what is set: without it no job may name any."""
    for root in settings.model_roots:
        if root.is_dir():
            yield well("models", f"{sum(1 for one in root.iterdir() if one.is_dir())} in {root}")
        else:
            yield doubtful(
                "models", f"{root} is no folder", "correct CPD_MODEL_ROOTS, or mount it: jobs that name one fail"
            )
    for check, url, variable in (
        ("hub", settings.hub_endpoint, "CPD_HUB_ENDPOINT"),
        ("judge", settings.judge_url, "CPD_JUDGE_URL"),
    ):
        if url is not None:
            yield _reached(check, url, variable)


def _reached(check: str, url: str, variable: str) -> Finding:
    """Any answer will do: what it says of our question is between it and the engine."""
    try:
        status = httpx.get(url, timeout=_ANSWER_S).status_code
    except httpx.HTTPError as error:
        remedy = f"correct {variable}, or the way to it (HTTPS_PROXY, firewall): jobs that need it fail with a code of their own"
        return doubtful(check, f"{url} does not answer: {error or type(error).__name__}", remedy)
    return well(check, f"{url} answers ({status})")
