"""Where the command writes: results on stdout (for people or as JSON), everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from rich.console import Console

from api.terminal.plain import may_draw


def stdout() -> Console:
    """The console for results. Plain text, and lines as long as they are, where stdout is no terminal or `--plain` is asked for."""
    console = Console(highlight=False)
    console.soft_wrap = not may_draw(console)
    return console


def stderr() -> Console:
    """The console for errors and hints."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def complain(message: str) -> None:
    """One line on stderr. No markup is read in it: it may hold a user's brackets."""
    stderr().print(f"cpd: {message}", markup=False, style="red")


def hint(message: str) -> None:
    """A line on stderr that is no error."""
    stderr().print(message, markup=False, style="dim")


def jsonable(value: BaseModel, kind: str) -> dict[str, Any]:
    """A value as the service writes it, `object` included."""
    return {"object": kind, **value.model_dump(mode="json")}


def print_json(value: Any) -> None:
    """One JSON document on one line of stdout, written at once so that a reader of a pipe sees it."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")
    sys.stdout.flush()


def print_json_list(values: Iterable[BaseModel], kind: str) -> None:
    """A list as one JSON document."""
    print_json({"object": "list", "data": [jsonable(value, kind) for value in values]})
