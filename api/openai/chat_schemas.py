"""Chat and text completions as OpenAI's published API has them, as far as they are spoken here. Anything else in a request is refused."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from api.openai.schemas import Frozen, Sent

PROMPT_CHARACTERS = 200_000
Text = Annotated[str, Field(max_length=PROMPT_CHARACTERS)]
Stop = Annotated[str, Field(min_length=1, max_length=200)]
Zero = Annotated[float, Field(ge=0.0, le=0.0)]
FinishReason = Literal["stop", "length"]


class TextPart(Sent):
    """A piece of a message; there are no others."""

    type: Literal["text"]
    text: Text


class ChatMessage(Sent):
    """A turn."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[list[TextPart], Field(min_length=1, max_length=64)]

    @property
    def text(self) -> str:
        """Its content as one text."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class StreamOptions(Sent):
    """What a stream tells beside the answer."""

    include_usage: bool = False


class Request(Sent):
    """What both kinds have in common. Penalties may be named as what they are without: nothing."""

    model: Annotated[str, Field(min_length=1, max_length=400)]
    max_tokens: Annotated[int, Field(ge=1, le=8192)] | None = None
    temperature: Annotated[float, Field(ge=0.0, le=2.0)] | None = None
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    n: Literal[1] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: Stop | Annotated[list[Stop], Field(min_length=1, max_length=4)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    frequency_penalty: Zero | None = None
    presence_penalty: Zero | None = None
    user: Annotated[str, Field(max_length=512)] | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts before which an answer ends."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class CreateChatCompletion(Request):
    """A conversation to go on with. A system message is the first, and the last word is the user's."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=256)]
    max_completion_tokens: Annotated[int, Field(ge=1, le=8192)] | None = None
    logprobs: Literal[False] | None = None

    @field_validator("messages")
    @classmethod
    def _order(cls, value: list[ChatMessage]) -> list[ChatMessage]:
        if any(message.role in ("system", "developer") for message in value[1:]) or value[-1].role != "user":
            raise ValueError("the system speaks first, if at all, and the user last")
        return value

    @model_validator(mode="after")
    def _one_limit(self) -> CreateChatCompletion:
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise ValueError("name max_completion_tokens or max_tokens, not both")
        return self


class CreateCompletion(Request):
    """A text to go on with."""

    prompt: Annotated[Text, Field(min_length=1)]
    best_of: Literal[1] | None = None
    echo: Literal[False] | None = None
    logprobs: None = None
    suffix: None = None


class Usage(Frozen):
    """Tokens of prompt and answer."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Answer(Frozen):
    """What the assistant says."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatChoice(Frozen):
    """The one answer."""

    index: int = 0
    message: Answer
    logprobs: None = None
    finish_reason: FinishReason


class ChatCompletion(Frozen):
    """An answer."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class Delta(Frozen):
    """What an answer grew by."""

    role: Literal["assistant"] | None = None
    content: str | None = None


class ChunkChoice(Frozen):
    """A piece of the one answer."""

    index: int = 0
    delta: Delta
    logprobs: None = None
    finish_reason: FinishReason | None = None


class ChatChunk(Frozen):
    """A piece of a stream; with `include_usage` the last has no choice, and the usage."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None


class TextChoice(Frozen):
    """The one text, or a piece of it, which has no reason yet."""

    index: int = 0
    text: str
    logprobs: None = None
    finish_reason: FinishReason | None


class TextCompletion(Frozen):
    """A text, or a piece of a stream."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage | None = None
