"""What to do about a row whose fields have other names than ours: the likely one is named, so that a rename mends the file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# What others call the prompt and the answer, likeliest first.
_PROMPTS = ("query", "user", "input", "context", "inputs", "source", "human", "request")
_ANSWERS = (
    "response",
    "completion",
    "output",
    "answer",
    "solution",
    "reply",
    "target",
    "targets",
    "assistant",
    "chosen",
    "label",
)
_KNOWN = "instruction/input/output, prompt/completion, messages, conversations, question/answer or problem/solution"


def missing(name: str, fields: Mapping[str, Any]) -> str:
    """What to do about a field that is missing: rename the one that looks like it, or add it."""
    others = _ANSWERS if name in _ANSWERS else _PROMPTS
    found = _first(fields, others)
    return f"Add the field {name}." if found is None else f"Rename the field {found} to {name}."


def unknown(fields: Mapping[str, Any]) -> str:
    """What to do about a row in no known format."""
    asked, answer = _first(fields, _PROMPTS), _first(fields, _ANSWERS)
    if asked is not None and answer is not None:
        return f"Rename the field {asked} to prompt and {answer} to completion; or use {_KNOWN}."
    return f"Use {_KNOWN}."


def _first(fields: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    return next((name for name in names if isinstance(fields.get(name), str)), None)
