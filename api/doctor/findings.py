"""What an examination of an installation comes to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "failure"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One fact. `check`: what was looked at; `level`: "failure" where the service cannot do its work with it, "warning" where it
    can, but not well or not for long; `remedy`: what to do, empty where all is well.
    """

    check: str
    level: Level
    said: str
    remedy: str = ""


def well(check: str, said: str) -> Finding:
    """As it should be."""
    return Finding(check=check, level="ok", said=said)


def doubtful(check: str, said: str, remedy: str) -> Finding:
    """Works, but not well or not for long."""
    return Finding(check=check, level="warning", said=said, remedy=remedy)


def broken(check: str, said: str, remedy: str) -> Finding:
    """Does not work."""
    return Finding(check=check, level="failure", said=said, remedy=remedy)
