"""The rows of a suite, each checked: one that cannot be asked or graded is an error, for leaving it out would change the score."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cpd_engine.config import SuiteSpec
from cpd_engine.data.jsonlines import Unusable, decode, parse
from cpd_engine.data.readers import lines_of
from cpd_engine.data.records import BadRow, Row, read_rows
from cpd_engine.errors import DatasetInvalid
from cpd_engine.evaluation.examples import COMPETITION, GRADE_SCHOOL
from cpd_engine.evaluation.maths import final_answer, gold_of_gsm8k
from cpd_engine.evaluation.prompts import Example
from cpd_engine.evaluation.settings import family

# The fields that the task's own data set has.
_FIELDS = {"gsm8k": ("question", "answer"), "math": ("problem",)}
_TEXT_FIELDS = ("instruction", "output")
# A solution without a box that is longer than this is no bare answer.
_BARE_ANSWER = 80
_SHOWN = 20
# The rows of a smaller suite are the same in every run, whatever its seed.
_DRAW_SEED = 0


def read_questions(paths: Sequence[Path], spec: SuiteSpec) -> list[Row]:
    """The rows of a text or maths suite; of maths with the gold answer as their only reference. Raises DatasetInvalid, naming the lines."""
    wanted = _FIELDS.get(spec.task, _TEXT_FIELDS)
    found: list[Row] = []
    bad: list[str] = []
    lines = _Counting(lines_of(paths))
    for row in read_rows(lines):
        if isinstance(row, BadRow):
            bad.append(_described(row, wanted))
        elif family(spec.task) == "text":
            found.append(row)
        elif (gold := _gold(row, spec.task)) is not None:
            found.append(Row(row.id, row.instruction, row.input, gold, (gold,)))
        else:
            bad.append(f"line {lines.number}: missing_answer: {_WITHOUT_GOLD[spec.task]}")
    _require(found, bad, spec, paths)
    return _drawn(found, spec.rows)


def read_programs(paths: Sequence[Path], spec: SuiteSpec) -> list[dict[str, Any]]:
    """The rows of a code suite as they are: what they must hold is for the reader of problems to say. Raises DatasetInvalid."""
    found: list[dict[str, Any]] = []
    bad: list[str] = []
    for number, line in enumerate(lines_of(paths, columns=None), start=1):
        if not line.strip():
            continue
        try:
            found.append(parse(decode(line)))
        except Unusable as fault:
            bad.append(f"line {number}: {fault.reason}. {fault.suggestion}")
    _require(found, bad, spec, paths)
    return _drawn(found, spec.rows)


def read_examples(paths: Sequence[Path], shots: int) -> list[Example]:
    """The first `shots` worked examples of files with problem and solution, or question and answer. Raises DatasetInvalid."""
    found: list[Example] = []
    for row in read_rows(lines_of(paths)):
        if isinstance(row, BadRow):
            raise DatasetInvalid(f"examples: {paths[0].name}: {_described(row, ('problem', 'solution'))}")
        found.append((row.instruction, row.response))
    return _first(found, shots, paths[0].name)


def own_examples(task: str, shots: int) -> list[Example]:
    """The project's own worked examples. Raises DatasetInvalid where there are not so many."""
    return _first(list(GRADE_SCHOOL if task == "gsm8k" else COMPETITION), shots, "the project's own examples")


def _first(found: list[Example], shots: int, where: str) -> list[Example]:
    if len(found) < shots:
        raise DatasetInvalid(
            f"shots: {shots} worked examples are asked for, and {where} holds {len(found)}; ask for fewer"
        )
    return found[:shots]


_WITHOUT_GOLD = {
    "gsm8k": "the answer has no '#### ' with the number behind it. Add it.",
    "math": "the solution has no \\boxed{} answer. Add it, or a field answer.",
}


def _gold(row: Row, task: str) -> str | None:
    """The final answer: of GSM8K what follows "####", of MATH the field answer, else the last box of the solution."""
    if task == "gsm8k":
        return gold_of_gsm8k(row.response)
    *_, last = row.references
    if "boxed" in last:
        return final_answer(last)
    return last.strip() if len(last) <= _BARE_ANSWER and "\n" not in last.strip() else None


class _Counting:
    """Lines, counted as they go by."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._lines = lines
        self.number = 0

    def __iter__(self) -> Iterator[bytes]:
        for line in self._lines:
            self.number += 1
            yield line


def _described(row: BadRow, wanted: Sequence[str]) -> str:
    hint = f" Fields of this task: {', '.join(wanted)}." if row.code in ("unknown_format", "missing_field") else ""
    return f"line {row.line}: {row.reason}. {row.suggestion}{hint}"


def _require(found: Sequence[object], bad: Sequence[str], spec: SuiteSpec, paths: Sequence[Path]) -> None:
    name = f"suite {spec.title}: {', '.join(path.name for path in paths)}"
    if bad:
        listed = "\n".join(bad[:_SHOWN])
        raise DatasetInvalid(f"{name}: {len(bad)} rows cannot be used; a suite is scored whole.\n{listed}")
    if not found:
        raise DatasetInvalid(f"{name}: no row. Write one JSON object a line.")


def _drawn(rows: list[Any], limit: int | None) -> list[Any]:
    """At most `limit` rows, in their order."""
    if limit is None or limit >= len(rows):
        return rows
    chosen = np.sort(np.random.default_rng(_DRAW_SEED).permutation(len(rows))[:limit])
    return [rows[int(at)] for at in chosen]


def to_lines(rows: Iterable[dict[str, Any]]) -> str:
    """Programs as the JSON lines that they were."""
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
