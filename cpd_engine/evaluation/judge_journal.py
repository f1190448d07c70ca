"""A judge's answers on the disk, a line each as they come: what was paid for is not asked for again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

from pydantic import TypeAdapter, ValidationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One answer. `key`: hash of all that was asked; `letter`: its verdict, None where it gives none; `text`: the whole of it."""

    key: str
    pair: str
    ours_first: bool
    letter: Literal["A", "B", "C"] | None
    text: str
    prompt_tokens: int
    completion_tokens: int


_ENTRY = TypeAdapter(Entry)


class Journal:
    """Entries by key, read when it is opened and appended to since. Half a line, as a kill leaves it, is left out."""

    def __init__(self, path: Path) -> None:
        self.entries: dict[str, Entry] = {}
        torn = False
        if path.exists():
            content = path.read_bytes()
            torn = bool(content) and not content.endswith(b"\n")
            for line in content.splitlines():
                try:
                    entry = _ENTRY.validate_json(line)
                except ValidationError:
                    continue
                self.entries[entry.key] = entry
        self._file = path.open("a", encoding="utf-8")
        if torn:
            self._file.write("\n")

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, entry: Entry) -> None:
        """Keep an answer, at once."""
        self.entries[entry.key] = entry
        self._file.write(json.dumps(asdict(entry)) + "\n")
        self._file.flush()
