"""Asking finished models in OpenAI's words: a request to a question, its readings to an answer or a stream of pieces."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass

from pydantic import BaseModel

from api.completions.service import Reading
from api.core.errors import ServiceError, ValidationFailed
from api.core.settings import Settings
from api.openai.chat_schemas import (
    Answer,
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChunkChoice,
    CreateChatCompletion,
    CreateCompletion,
    Delta,
    Request,
    TextChoice,
    TextCompletion,
    Usage,
)
from cpd_engine.conversation import Ask, Message

DONE = b"data: [DONE]\n\n"
_TEXT_TOKENS = 16


def chat_ask(sent: CreateChatCompletion, settings: Settings) -> Ask:
    """The question of a conversation. Raises ValidationFailed."""
    field = "max_tokens" if sent.max_tokens is not None else "max_completion_tokens"
    limit = _limit(sent.max_tokens or sent.max_completion_tokens, field, settings)
    messages = tuple(
        Message(role="system" if message.role == "developer" else message.role, content=message.text)
        for message in sent.messages
    )
    return _asked(sent, limit, messages=messages)


def text_ask(sent: CreateCompletion, settings: Settings) -> Ask:
    """The question of a text; 16 tokens where nothing is said, as OpenAI has it. Raises ValidationFailed."""
    most = min(_TEXT_TOKENS, settings.serving_max_tokens)
    return _asked(sent, _limit(sent.max_tokens or most, "max_tokens", settings), prompt=sent.prompt)


def _limit(asked: int | None, field: str, settings: Settings) -> int:
    most = settings.serving_max_tokens
    if asked is not None and asked > most:
        raise ValidationFailed(f"{field}: an answer may have at most {most} tokens here", param=field)
    return asked or most


def _asked(sent: Request, limit: int, *, messages: tuple[Message, ...] = (), prompt: str | None = None) -> Ask:
    return Ask(
        messages=messages,
        prompt=prompt,
        max_tokens=limit,
        temperature=1.0 if sent.temperature is None else sent.temperature,
        top_p=1.0 if sent.top_p is None else sent.top_p,
        # As many bits as the generator takes; a question without a seed gets one of its own.
        seed=secrets.randbits(63) if sent.seed is None else sent.seed % 2**63,
        stop=sent.stops,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """How one answer is told, whole and in pieces; `usage`: whether a stream ends with the counts."""

    id: str
    created: int
    model: str
    usage: bool
    is_chat: bool

    def whole(self, reading: Reading) -> ChatCompletion | TextCompletion:
        """The answer, which has ended."""
        reason = reading.finish_reason or "stop"
        if not self.is_chat:
            choice = TextChoice(text=reading.text, finish_reason=reason)
            return TextCompletion(**self._head(), choices=[choice], usage=counted(reading))
        answer = ChatChoice(message=Answer(content=reading.text), finish_reason=reason)
        return ChatCompletion(**self._head(), choices=[answer], usage=counted(reading))

    def opening(self) -> list[BaseModel]:
        """The first piece, which says who speaks."""
        if not self.is_chat:
            return []
        return [ChatChunk(**self._head(), choices=[ChunkChoice(delta=Delta(role="assistant", content=""))])]

    def piece(self, text: str) -> BaseModel:
        """More of the answer."""
        if not self.is_chat:
            return TextCompletion(**self._head(), choices=[TextChoice(text=text, finish_reason=None)])
        return ChatChunk(**self._head(), choices=[ChunkChoice(delta=Delta(content=text))])

    def closing(self, reading: Reading) -> list[BaseModel]:
        """The last pieces: why it ended and, where it was asked for, what it took."""
        if not self.is_chat:
            ended: BaseModel = TextCompletion(
                **self._head(), choices=[TextChoice(text="", finish_reason=reading.finish_reason)]
            )
            total: BaseModel = TextCompletion(**self._head(), choices=[], usage=counted(reading))
        else:
            ended = ChatChunk(**self._head(), choices=[ChunkChoice(delta=Delta(), finish_reason=reading.finish_reason)])
            total = ChatChunk(**self._head(), choices=[], usage=counted(reading))
        return [ended, total] if self.usage else [ended]

    def _head(self) -> dict[str, object]:
        return {"id": self.id, "created": self.created, "model": self.model}


def counted(reading: Reading) -> Usage:
    """Tokens of prompt and answer."""
    total = reading.prompt_tokens + reading.completion_tokens
    return Usage(prompt_tokens=reading.prompt_tokens, completion_tokens=reading.completion_tokens, total_tokens=total)


async def streamed(
    voice: Voice,
    first: Reading,
    more: AsyncIterator[Reading],
    *,
    broken: Callable[[ServiceError], bytes],
) -> AsyncGenerator[bytes]:
    """The answer as server-sent events. What goes wrong on the way is an event too (`broken`), for the status is out."""
    for piece in voice.opening():
        yield sse(piece)
    told = ""
    reading = first
    try:
        while True:
            # Only ever longer: what a model may still take back it has not said yet.
            if len(reading.text) > len(told):
                yield sse(voice.piece(reading.text[len(told) :]))
                told = reading.text
            if reading.finish_reason is not None:
                break
            reading = await anext(more)
    except ServiceError as error:
        yield broken(error)
        return
    except StopAsyncIteration:
        return
    for piece in voice.closing(reading):
        yield sse(piece)
    yield DONE


def sse(piece: BaseModel) -> bytes:
    """One event."""
    told = piece.model_dump(mode="json", exclude={"usage"} if getattr(piece, "usage", None) is None else None)
    return b"data: " + json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"
