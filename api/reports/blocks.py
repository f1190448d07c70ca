"""What a report consists of, before it is a page or a text: sections of paragraphs, tables, figures and exhibits. Plain values.

Words here are a report's own or a user's; none of them is markup. Whoever renders them escapes them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

# What a reader is to feel about a finding before reading it.
Tone = Literal["good", "bad", "unclear", "plain"]


@dataclass(frozen=True, slots=True)
class Code:
    """A name or a command, as it is written."""

    text: str


@dataclass(frozen=True, slots=True)
class Strong:
    """The word that a sentence is about."""

    text: str


# A sentence, or its pieces.
Words = str | Code | Strong | tuple[str | Code | Strong, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Paragraph:
    """Sentences. A `quiet` one explains what stands above it."""

    words: Words
    quiet: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What the numbers show, in one sentence, and what it rests on."""

    tone: Tone
    title: str
    words: Words


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One number that a reader looks for first; `note` says of what and how sure."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiles:
    """Numbers side by side."""

    tiles: Sequence[Tile]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Names and what they are."""

    rows: Sequence[tuple[str, Words]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under a head. Columns from `numbers` on are numbers; `strong`: the rows that the report is about."""

    head: Sequence[str]
    rows: Sequence[Sequence[Words]]
    numbers: int = 1
    strong: frozenset[int] = field(default=frozenset())


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A figure as plotly's JSON has it, see api.web.figures."""

    data: Sequence[dict[str, Any]]
    layout: dict[str, Any]

    @property
    def title(self) -> str:
        """What it is called."""
        return str(self.layout["meta"]["title"])

    @property
    def description(self) -> str:
        """What it shows, for those who do not see it as well."""
        return str(self.layout["meta"]["description"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Bullets:
    """A list."""

    items: Sequence[Words]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhibit:
    """A row of the data: what was asked and what each model answered, each text under its label. `title` says why it is shown."""

    title: str
    parts: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Lines to copy."""

    text: str
    language: str = "sh"


Block = Paragraph | Finding | Tiles | Facts | Table | Picture | Bullets | Exhibit | Listing


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part under its heading; `anchor` names it in an address."""

    title: str
    anchor: str
    blocks: Sequence[Block]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The whole. `kind` and `facts` stand beside the title; `about` is what it tells of, a job's or a comparison's id."""

    title: str
    kind: str
    about: str
    facts: Sequence[str]
    sections: Sequence[Section]
