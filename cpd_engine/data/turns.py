"""Turns of a conversation, and the two ways of writing them down that rows may use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cpd_engine.data.jsonlines import Unusable

# Of each way the names of speaker and text; what it calls our three roles; and how it is to be written.
_ROLES = {"system": "system", "user": "user", "assistant": "assistant"}
_SPEAKERS = {**_ROLES, "human": "user", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant"}
_WAYS = {
    "messages": ("role", "content", _ROLES, '{"role": "system" | "user" | "assistant", "content": "…"}'),
    "conversations": ("from", "value", _SPEAKERS, '{"from": "system" | "human" | "gpt", "value": "…"}'),
}


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation; role is system, user or assistant."""

    role: str
    content: str


def transcript(turns: tuple[Turn, ...]) -> str:
    """The conversation as plain text: what the system says and a lone user turn as they are, else each turn with its speaker."""
    if [turn.role for turn in turns] == ["system", "user"]:
        return f"{turns[0].content}\n\n{turns[1].content}"
    named = {"system": "", "user": "User: ", "assistant": "Assistant: "}
    return "\n\n".join(named[turn.role] + turn.content for turn in turns)


def read_turns(value: Any, field: str) -> list[tuple[str, Any]]:
    """Role and content, unchecked, of each turn in a row's field `messages` or `conversations` (ShareGPT). Raises Unusable."""
    speaker, text, roles, shape = _WAYS[field]
    remedy = f"Write a list of {shape}."
    if not isinstance(value, list) or not all(isinstance(turn, dict) for turn in value):
        raise Unusable("wrong_type", f"{field} is not a list of objects", remedy, field=field)
    if any(not isinstance(turn.get(speaker), str) or turn[speaker] not in roles or text not in turn for turn in value):
        reason = f"a turn lacks a known role ({speaker}) or its {text}"
        raise Unusable("invalid_message", reason, remedy, field=field)
    turns = [(roles[turn[speaker]], turn[text]) for turn in value]
    if any(role == "system" for role, _ in turns[1:]):
        raise Unusable("invalid_message", "a system message is not the first", remedy, field=field)
    return turns
