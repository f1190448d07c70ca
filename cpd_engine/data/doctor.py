"""What a data set holds that is worth a look before it is trained on: bad rows, duplicates, contradictions, leaks, lengths.

One pass over the lines. Standard library only: the REST API and the command line say the same by it. What is kept of a row are two
hashes, and of no more than `compared` rows.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from cpd_engine.data.digests import content_hash, prompt_hash
from cpd_engine.data.jsonlines import PlacedLine
from cpd_engine.data.lengths import Lengths, Tally
from cpd_engine.data.records import BadRow, Row, detect_format, read_rows

SHOWN = 20
# A row's hashes take about 200 bytes.
COMPARED = 2_000_000
_SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """How many rows there are of a kind, and the lines of the first."""

    rows: int
    lines: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What the rows of a data set are like.

    `format`: of the first usable row. `reasons`: bad rows by code. `prompt` and `response` in characters. `duplicates` say and accept
    what an earlier row does; `conflicting` ask what an earlier row does and answer otherwise; both, and `leaked`, were looked for among
    the first `compared` rows. `leaked`, by the name of another set: rows that ask what a row of that set asks.
    """

    format: str
    rows: int
    bad_rows: int
    first_bad: tuple[BadRow, ...]
    reasons: dict[str, int]
    prompt: Lengths
    response: Lengths
    duplicates: Found
    conflicting: Found
    leaked: dict[str, Found]
    compared: int

    @property
    def bad_fraction(self) -> float:
        """Share of the lines that cannot be used; 1 for a file without a line."""
        lines = self.rows + self.bad_rows
        return self.bad_rows / lines if lines else 1.0


@dataclass(slots=True)
class _Count:
    rows: int = 0
    lines: list[int] = field(default_factory=list)

    def add(self, line: int) -> None:
        self.rows += 1
        if len(self.lines) < SHOWN:
            self.lines.append(line)

    def found(self) -> Found:
        return Found(rows=self.rows, lines=tuple(self.lines))


class Examination:
    """Rows that pass by one at a time, and what was seen of them. `elsewhere`: the prompts' hashes of other sets, by their names."""

    def __init__(self, *, elsewhere: Mapping[str, AbstractSet[bytes]] | None = None, compared: int = COMPARED) -> None:
        self.prompts: set[bytes] = set()
        self._contents: set[bytes] = set()
        self._elsewhere = elsewhere or {}
        self._limit = compared
        self._rows = 0
        self._format = "unknown"
        self._first_bad: list[BadRow] = []
        self._reasons: Counter[str] = Counter()
        self._prompt, self._response = Tally(), Tally()
        self._duplicates, self._conflicting = _Count(), _Count()
        self._leaked = {name: _Count() for name in self._elsewhere}

    def usable(self, lines: Iterable[bytes]) -> Iterator[Row]:
        """The rows that can be used; all are looked at when the last has been asked for. Raises what reading the lines raises."""
        read = _Remembering(lines)
        for row in read_rows(read):
            if isinstance(row, BadRow):
                self._reasons[row.code] += 1
                if len(self._first_bad) < SHOWN:
                    self._first_bad.append(row)
                continue
            if not self._rows:
                self._format = detect_format(json.loads(read.last.decode("utf-8-sig")))
            self._rows += 1
            self._prompt.add(len(row.instruction) + len(row.input))
            self._response.add(len(row.response))
            if self._rows <= self._limit:
                self._compare(row, read.line)
            yield row

    def look(self, lines: Iterable[bytes]) -> None:
        """Let all rows pass by."""
        for _ in self.usable(lines):
            pass

    def _compare(self, row: Row, line: int) -> None:
        prompt, content = prompt_hash(row, _SEED), content_hash(row, _SEED)
        if content in self._contents:
            self._duplicates.add(line)
        elif prompt in self.prompts:
            self._conflicting.add(line)
        self.prompts.add(prompt)
        self._contents.add(content)
        for name, prompts in self._elsewhere.items():
            if prompt in prompts:
                self._leaked[name].add(line)

    def diagnosis(self) -> Diagnosis:
        """What was seen so far."""
        return Diagnosis(
            format=self._format,
            rows=self._rows,
            bad_rows=self._reasons.total(),
            first_bad=tuple(self._first_bad),
            reasons=dict(self._reasons),
            prompt=self._prompt.lengths(),
            response=self._response.lengths(),
            duplicates=self._duplicates.found(),
            conflicting=self._conflicting.found(),
            leaked={name: count.found() for name, count in self._leaked.items()},
            compared=min(self._rows, self._limit),
        )


class _Remembering:
    """Lines, the last of which can be looked at again, and where it stands in its file."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._lines = lines
        self.last = b""
        self.line = 0

    def __iter__(self) -> Iterator[bytes]:
        for number, line in enumerate(self._lines, start=1):
            self.last = line
            self.line = line.line if isinstance(line, PlacedLine) else number
            yield line
