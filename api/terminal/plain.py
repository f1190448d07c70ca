"""Plain output: no colour, no escape sequence and no line that is drawn over, where nobody looks on or somebody asks for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.console import Console


def may_draw(console: Console) -> bool:
    """Whether lines may be drawn over: on a terminal, unless it is one that cannot, or `--plain` says not to."""
    return console.is_terminal and not console.is_dumb_terminal


def _be_plain(asked: bool) -> bool:
    """From here on as on a terminal that can do nothing else, to which help and complaints about usage keep as well."""
    if asked:
        os.environ |= {"TERM": "dumb", "NO_COLOR": "1"}
    return asked


_bearer = typer.Typer(add_completion=False)


@_bearer.command()
def _takes_plain(
    plain: Annotated[
        bool,
        typer.Option(
            "--plain",
            is_eager=True,
            expose_value=False,
            callback=_be_plain,
            help="No colour, and no line that is drawn over.",
        ),
    ] = False,
) -> None:
    """Has the option that all others are given."""


def with_plain(command: Any) -> Any:
    """The command with the option `--plain`, as all below it: `cpd --plain jobs` and `cpd jobs --plain` are the same.

    Typer has no public name for what it makes of an app, so that there is none to annotate here.
    """
    [option] = typer.main.get_command(_bearer).params
    for one in (command, *_below(command)):
        one.params.append(option)
    return command


def _below(command: Any) -> Iterator[Any]:
    for one in getattr(command, "commands", {}).values():
        yield one
        yield from _below(one)
