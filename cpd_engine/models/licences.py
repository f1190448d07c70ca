"""What a repository or a folder says of its licence in the front matter of its README.md, where hubs keep it. Nothing is guessed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from cpd_engine.models.hub import CARD

_MOST_BYTES = 1 << 20
_LONGEST = 120
_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(?P<yaml>.*?)\n---[ \t]*(\n|\Z)", re.DOTALL)


def stated_licence(folder: Path) -> str | None:
    """The licence that a snapshot of a hub's repository, or a model's folder, states, as it is written there; None where it states none.

    A licence that is `other` comes with the name that is given for it, several are listed.
    """
    try:
        with (folder / CARD).open("rb") as file:
            text = file.read(_MOST_BYTES).decode("utf-8", errors="replace").replace("\r\n", "\n")
    except OSError:
        return None
    found = _FRONT_MATTER.match(text)
    fields = _fields(found["yaml"]) if found is not None else {}
    stated = _words(fields.get("license"))
    name = _words(fields.get("license_name"))
    return f"{stated} ({name})" if stated and name else stated


def _fields(text: str) -> dict[str, Any]:
    try:
        fields = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _words(value: object) -> str | None:
    """One line of text, a list's parts joined; None for anything else."""
    parts = value if isinstance(value, list) else [value]
    words = ", ".join(" ".join(part.split()) for part in parts if isinstance(part, str))
    return words[:_LONGEST] or None
