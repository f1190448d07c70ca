"""What a serving engine is asked and says: JSON lines over its standard input and its descriptor of events. Torch-free."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Template = Literal["paper", "chat", "auto"]
"""How messages become a prompt; `auto`: by the tokenizer's chat template, where it has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A question: messages to answer or a prompt to go on with, one of the two. temperature 0 is greedy."""

    messages: tuple[Message, ...] = ()
    prompt: str | None = None
    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """The answer so far; the last of an answer has its `finish_reason`, or the `code` of what went wrong with `text` as the reason."""

    id: str
    text: str
    finish_reason: Literal["stop", "length"] | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    code: str | None = None

    @property
    def last(self) -> bool:
        """Whether nothing follows."""
        return self.finish_reason is not None or self.code is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A line to the engine: answer `ask` under this id, or, without one, break off the answer of that id."""

    id: str
    ask: Ask | None = field(default=None)


def ask_from(told: Mapping[str, Any]) -> Ask:
    """Inverse of `dataclasses.asdict`."""
    messages = tuple(Message(**message) for message in told["messages"])
    return Ask(**{**told, "messages": messages, "stop": tuple(told["stop"])})


def line(value: Order | Said) -> bytes:
    """One line, with its end."""
    return json.dumps(asdict(value), separators=(",", ":")).encode() + b"\n"


def read_order(text: bytes) -> Order:
    """Inverse of `line`."""
    told = json.loads(text)
    return Order(id=told["id"], ask=None if told["ask"] is None else ask_from(told["ask"]))


def read_said(text: bytes) -> Said:
    """Inverse of `line`."""
    return Said(**json.loads(text))
