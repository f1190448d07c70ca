"""Turns of a conversation."""

from __future__ import annotations

from dataclasses import dataclass


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
