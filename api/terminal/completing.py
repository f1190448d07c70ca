"""Ids for the shell to complete: asked of the service in a moment, or none. A shell that waits is no help, nor is an error on its line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import typer

from api.client import Client
from api.remote.transport import Patience
from api.remote.trouble import Trouble

_TIMEOUT_S = 2.0
_MOST = 50

Offered = Iterator[tuple[str, str]]


def jobs(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """The newest jobs with their names and states."""
    return _asked(
        context, incomplete, lambda cpd: ((job.id, f"{job.name or ''} {job.state}".strip()) for job in cpd.jobs())
    )


def datasets(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """The newest data sets with their names."""
    return _asked(context, incomplete, lambda cpd: ((found.id, found.name) for found in cpd.datasets()))


def comparisons(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """The newest comparisons with their names and states."""
    return _asked(
        context,
        incomplete,
        lambda cpd: ((one.id, f"{one.name or ''} {one.state}".strip()) for one in cpd.comparisons.list()),
    )


def _asked(context: typer.Context, incomplete: str, ask: Callable[[Client], Offered]) -> list[tuple[str, str]]:
    given: dict[str, Any] = context.params
    once = Patience(attempts=1)
    try:
        with Client(given.get("url"), given.get("key"), timeout_s=_TIMEOUT_S, patience=once) as client:
            return [found for found in islice(ask(client), _MOST) if found[0].startswith(incomplete)]
    except Trouble:
        return []
