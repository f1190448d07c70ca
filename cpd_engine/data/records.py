"""Rows of a data set, read from JSON lines. Standard library only: the REST API reports on uploads with this same code.

Formats, told apart row by row:

- `instruction`: {"instruction", "input"?, "output"}, as Alpaca; `output` is a text, or a list of texts that are all accepted answers.
  Dolly's own names for the last two are taken as well: {"instruction", "context"?, "response"};
- `prompt`: {"prompt", "completion"};
- `messages`: {"messages": [{"role", "content"}, …]}; the last assistant turn is the response, the turns before it the prompt;
- `sharegpt`: {"conversations": [{"from": "human" or "gpt", "value"}, …]}, read in the same way;
- `question`: {"question", "answer"}, as GSM8K;
- `problem`: {"problem", "solution"?, "answer"?}, as MATH: the solution is trained on, the answer alone is accepted as well;
- `code`: {"prompt" or "text", "canonical_solution" or "code"}, as HumanEval and MBPP.

Every row may carry an "id", and tests for answers: "test_list" (with "test_setup_code", "test_imports") as MBPP, or "test" and
"entry_point" as HumanEval. Other fields are ignored. A row that cannot be used becomes a `BadRow` and reading goes on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from cpd_engine.data.jsonlines import MAX_ROW_BYTES as MAX_ROW_BYTES
from cpd_engine.data.jsonlines import PlacedLine, Unusable, decode, parse, place
from cpd_engine.data.jsonlines import read_lines as read_lines
from cpd_engine.data.remedies import missing, unknown
from cpd_engine.data.tests_of import FIELDS as TEST_FIELDS
from cpd_engine.data.tests_of import RowTests, read_tests
from cpd_engine.data.turns import Turn as Turn
from cpd_engine.data.turns import read_turns, transcript

FORMATS = ("instruction", "prompt", "messages", "sharegpt", "question", "problem", "code")
# All that is read of a row; whoever reads a columnar file needs no other column.
FIELDS = (
    "id", "instruction", "input", "output", "context", "response", "prompt", "completion", "messages", "conversations",
    "question", "answer", "problem", "solution", "text", "canonical_solution", "code", *TEST_FIELDS,
)  # fmt: skip

# Whether a row asks anything is seen when all of it is read.
_ASKED = ("instruction", "input", "context", "prompt", "question", "problem", "text")
_SURROGATE = re.compile("[\ud800-\udfff]")
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Row:
    """One training or test example. `references` are all accepted answers, `response` (the one trained on) first.

    `turns` is empty unless the row was a conversation of more than one user turn or with a system turn; then it holds the turns
    before the response for the tokenizer's chat template, and `instruction` the same as plain text for other templates.
    `tests` are those of a row of code.
    """

    id: str
    instruction: str
    input: str
    response: str
    references: tuple[str, ...]
    turns: tuple[Turn, ...] = ()
    tests: RowTests | None = None


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used. `line` and `column` count from 1; `reason` is "code: text" with a stable code.

    Of a table, as CSV is, `column` is the number of the table's column.
    """

    line: int
    column: int | None
    reason: str
    suggestion: str

    @property
    def code(self) -> str:
        """The stable part of `reason`."""
        return self.reason.partition(":")[0]


def read_rows(lines: Iterable[bytes]) -> Iterator[Row | BadRow]:
    """One `Row` or `BadRow` a line, in order; blank lines are skipped. Rows without an id are called "row-<line>"."""
    seen: set[str] = set()
    for number, raw in enumerate(lines, start=1):
        line = raw.removeprefix(_BOM) if number == 1 else raw
        if line.isspace() or not line:
            continue
        text = ""
        try:
            if isinstance(raw, PlacedLine) and raw.fault is not None:
                raise raw.fault
            text = decode(line)
            fields = parse(text)
            row = _tested(_row(fields, _identifier(fields, number, seen)), fields)
        except Unusable as bad:
            yield BadRow(*place(raw, number, text, bad), bad.reason, bad.suggestion)
        else:
            seen.add(row.id)
            yield row


def detect_format(row: dict[str, Any]) -> str:
    """The format a JSON object is in, one of `FORMATS`, by the fields it has (null is not having it); "unknown" where none fits."""
    has = {name for name, value in row.items() if value is not None}
    others = {"messages", "conversations", "completion", "instruction", "question", "problem"}
    if has & {"canonical_solution", "code"} and not has & others:
        return "code"
    order = ("messages", "conversations", "prompt", "instruction", "question", "problem")
    found = next((name for name in order if name in has), "unknown")
    return "sharegpt" if found == "conversations" else found


def to_json(row: Row) -> str:
    """The row as one line of JSON without newline; `from_json` reads it back as an equal row, and so does `read_rows` within its limit."""
    fields: dict[str, Any] = {"id": row.id}
    output = row.response if row.references == (row.response,) else list(row.references)
    if row.turns:
        turns = [{"role": turn.role, "content": turn.content} for turn in row.turns]
        fields["messages"] = [*turns, {"role": "assistant", "content": output}]
    else:
        fields |= {"instruction": row.instruction, "input": row.input, "output": output}
    fields |= row.tests.fields() if row.tests is not None else {}
    return json.dumps(fields, ensure_ascii=False, allow_nan=False)


def from_json(line: bytes) -> Row:
    """Inverse of `to_json`, whatever the length: a row just under the limit may be over it once normalised."""
    fields = parse(line.decode())
    return _tested(_row(fields, str(fields["id"])), fields)


def _tested(row: Row, fields: dict[str, Any]) -> Row:
    tests = read_tests(fields)
    return row if tests is None else replace(row, tests=tests)


def _identifier(fields: dict[str, Any], number: int, seen: set[str]) -> str:
    given = fields.get("id")
    if given is None:
        made, attempt = f"row-{number}", 1
        while made in seen:
            attempt += 1
            made = f"row-{number}.{attempt}"
        return made
    if isinstance(given, bool) or not isinstance(given, str | int):
        raise Unusable("wrong_type", "id is neither a text nor an integer", "Use a text as id.", field="id")
    identifier = str(given)
    if not identifier or len(identifier) > 200 or _SURROGATE.search(identifier):
        raise Unusable("invalid_id", "id is empty, too long or not text", "Use up to 200 characters.", field="id")
    if identifier in seen:
        raise Unusable("duplicate_id", "another row has this id", "Give each row an id of its own.", field="id")
    return identifier


def _row(fields: dict[str, Any], identifier: str) -> Row:
    match detect_format(fields):
        case "messages":
            return _from_turns(fields["messages"], "messages", identifier)
        case "sharegpt":
            return _from_turns(fields["conversations"], "conversations", identifier)
        case "prompt":
            instruction, given_input = _text(fields, "prompt"), ""
            references: tuple[str, ...] = (_text(fields, "completion"),)
        case "instruction":
            instruction = _text(fields, "instruction")
            given = _first(fields, "input", "context")
            given_input = _text(fields, given) if fields.get(given) is not None else ""
            references = _answers(fields, _first(fields, "output", "response"))
        case "question":
            instruction, given_input, references = _text(fields, "question"), "", _answers(fields, "answer")
        case "problem":
            instruction, given_input = _text(fields, "problem"), ""
            named = [name for name in ("solution", "answer") if fields.get(name) is not None] or ["solution"]
            references = tuple(dict.fromkeys(_text(fields, name) for name in named))
        case "code":
            instruction, given_input = _text(fields, _first(fields, "prompt", "text")), ""
            references = (_text(fields, _first(fields, "canonical_solution", "code")),)
        case _:
            raise Unusable("unknown_format", "no field of a known format", unknown(fields))
    if not instruction.strip() and not given_input.strip():
        field = next(name for name in ("prompt", "instruction", "question", "problem", "text") if name in fields)
        raise Unusable("empty_prompt", "the prompt is empty", "Write what is asked, or remove the row.", field=field)
    return Row(identifier, instruction, given_input, references[0], references)


def _first(fields: dict[str, Any], name: str, other: str) -> str:
    """Which of two names of the same thing the row has; the first where it has neither."""
    return other if fields.get(name) is None and fields.get(other) is not None else name


def _text(fields: dict[str, Any], name: str) -> str:
    if name not in fields:
        raise Unusable("missing_field", f"the field {name} is missing", missing(name, fields))
    return _checked(fields[name], name, allow_empty=name in _ASKED)


def _checked(value: Any, name: str, *, allow_empty: bool) -> str:
    if not isinstance(value, str):
        raise Unusable("wrong_type", f"{name} is not a text", f"Write {name} as a text in quotes.", field=name)
    if _SURROGATE.search(value):
        remedy = "Write characters beyond U+FFFF as themselves or as a full surrogate pair."
        raise Unusable("lone_surrogate", f"{name} holds half of a surrogate pair", remedy, field=name)
    if "\0" in value:
        raise Unusable("nul_character", f"{name} holds a NUL character", "Remove the NUL characters.", field=name)
    if not allow_empty and not value.strip():
        raise Unusable("empty_response", f"{name} is empty", "Write the answer, or remove the row.", field=name)
    return value


def _answers(fields: dict[str, Any], name: str) -> tuple[str, ...]:
    """One text, or several accepted ones without repeats."""
    value = fields.get(name)
    if not isinstance(value, list):
        return (_text(fields, name),)
    if not value:
        raise Unusable("empty_response", f"{name} is an empty list", "Write at least one answer.", field=name)
    return tuple(dict.fromkeys(_checked(one, name, allow_empty=False) for one in value))


def _from_turns(value: Any, field: str, identifier: str) -> Row:
    turns = read_turns(value, field)
    while turns and turns[-1][0] != "assistant":  # what follows the last answer has no answer to learn from
        turns.pop()
    if not turns:
        raise Unusable(
            "missing_field", "no assistant turn", "End the conversation with an assistant turn.", field=field
        )
    name = "content" if field == "messages" else "value"
    answer = turns.pop()[1]
    earlier: list[Turn] = []
    try:
        for role, content in turns:
            earlier.append(Turn(role, _checked(content, name, allow_empty=True)))
        references = _answers({name: answer}, name)
    except Unusable as bad:
        bad.nth = len(earlier)
        raise
    if not any(turn.role == "user" and turn.content.strip() for turn in earlier):
        raise Unusable("empty_prompt", "no user turn before the answer", "Add a user turn.", field=field)
    if len(earlier) == 1:
        return Row(identifier, earlier[0].content, "", references[0], references)
    return Row(identifier, transcript(tuple(earlier)), "", references[0], references, tuple(earlier))
