"""HumanEval, HumanEval+, MBPP and MBPP+ in the forms they are published in, as one kind of problem. Runs nothing of what it reads."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cpd_engine.errors import DatasetInvalid
from cpd_engine.evaluation.guests.wire import packed
from cpd_engine.evaluation.mbpp_inputs import with_tuples

CodeTask = Literal["humaneval", "humaneval_plus", "mbpp", "mbpp_plus"]

# Fig. 8, whole, and what of it is asked where the run has a template of its own.
PAPER_PROMPT = (
    "Please provide a self-contained Python script that solves the following problem in a markdown code block:\n\n"
    "### Problem:\n{instruction}\n\n### Response:\n"
    "Below is a Python script with a self-contained function that solves the problem and passes corresponding tests:\n"
)
_REQUEST = "Please provide a self-contained Python script that solves the following problem in a markdown code block:\n\n{instruction}"

_DEFINED = re.compile(r"^(?:async\s+def|def|class)\s+([A-Za-z_]\w*)", re.MULTILINE)
_WORD = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeProblem:
    """A problem and its tests.

    `statement`: the problem alone; `prompt`: what the model is asked, for the template of the run; `paper_prompt`: Fig. 8, to be sent as
    it is. `stub`: the beginning that an answer may go on from, "" where there is none. `solution`: the data's own, whole.
    `examination`: the tests as the sandbox takes them; `plus`: whether those of EvalPlus are among them, `joint`: in one suite with the
    others.
    """

    id: str
    statement: str
    entry_point: str
    stub: str
    solution: str
    examination: Mapping[str, Any]
    plus: bool
    joint: bool = False

    @property
    def prompt(self) -> str:
        """The request of Fig. 8 with the problem, without the sections around it."""
        return _REQUEST.format(instruction=self.statement)

    @property
    def paper_prompt(self) -> str:
        """Fig. 8, filled in."""
        return PAPER_PROMPT.format(instruction=self.statement)


def read_problems(rows: Iterable[dict[str, Any]] | Path, task: CodeTask) -> list[CodeProblem]:
    """The problems in rows, or in a .jsonl, .jsonl.gz, .json (an array) or .parquet file, in their order.

    Raises DatasetInvalid, with the row's number, where a row is none of the published forms of the task, or there is no row.
    """
    problems = []
    given = _rows_of(rows) if isinstance(rows, Path) else rows
    for number, row in enumerate(given, 1):
        try:
            problems.append(_problem(row, task, number))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            what = f"no field {error}" if isinstance(error, KeyError) else str(error)
            raise DatasetInvalid(f"{task}: row {number} is no problem of a published form: {what}") from error
    if not problems:
        raise DatasetInvalid(f"{task}: no rows")
    return problems


def _problem(row: Mapping[str, Any], task: CodeTask, number: int) -> CodeProblem:
    plus = task.endswith("_plus")
    match task:
        case "humaneval" | "humaneval_plus":
            return _human_eval(row, plus)
        case "mbpp" | "mbpp_plus" if "base_input" in row:
            return _mbpp_of_inputs(row, plus)
        case "mbpp" | "mbpp_plus":
            return _mbpp_of_asserts(row, plus, number)


def _human_eval(row: Mapping[str, Any], plus: bool) -> CodeProblem:
    prompt, entry = _text(row, "prompt"), _text(row, "entry_point")
    solution = prompt + _text(row, "canonical_solution")
    if plus and "plus_input" in row:
        examination = _inputs(row, solution, entry, row["base_input"], row["plus_input"], mbpp=False)
    else:
        test = f"{_text(row, 'test')}\ncheck({entry})\n"
        examination = _checks([test], None, names=[entry], reference=solution)
    return CodeProblem(
        id=_text(row, "task_id"),
        statement=prompt.strip(),
        entry_point=entry,
        stub=prompt,
        solution=solution,
        examination=examination,
        plus=plus,
        # The hub's file has the tests of both in one function.
        joint=plus and "plus_input" not in row,
    )


def _mbpp_of_inputs(row: Mapping[str, Any], plus: bool) -> CodeProblem:
    """EvalPlus's own file: a description in quotes, inputs, and a solution that says what they give."""
    task_id, entry, solution = _text(row, "task_id"), _text(row, "entry_point"), _text(row, "canonical_solution")
    base, more = (with_tuples(task_id, row[name]) for name in ("base_input", "plus_input"))
    statement = _text(row, "prompt").strip()
    if "assert" not in statement:
        statement = f"{statement}\n{_header(solution, entry)}"
    return CodeProblem(
        id=task_id,
        statement=statement,
        entry_point=entry,
        stub="",
        solution=solution,
        examination=_inputs(row, solution, entry, base, more if plus else None, mbpp=True),
        plus=plus,
    )


def _mbpp_of_asserts(row: Mapping[str, Any], plus: bool, number: int) -> CodeProblem:
    """Google's file, full (`text`) or sanitized (`prompt`), and the hub's MBPP+, which has `test` beside its `test_list`."""
    code, tests = _text(row, "code").replace("\r\n", "\n"), [str(test) for test in row["test_list"]]
    setup, more = str(row.get("test_setup_code") or ""), _text(row, "test") if plus else None
    words = _WORD.findall("\n".join([*tests, setup]))
    defined = set(_DEFINED.findall(code))
    names = [name for name in dict.fromkeys(words) if name in defined]
    if not names:
        raise ValueError("its tests use nothing that its code defines")
    description = str(row["prompt"] if "prompt" in row else row["text"]).strip()
    imports = [str(line) for line in row.get("test_imports") or ()]
    return CodeProblem(
        id=str(row.get("task_id", number)),
        # One of the tests, as EvalPlus shows it: without it nobody could know the name.
        statement=f'"""\n{description}\n{tests[0].strip()}\n"""',
        entry_point=names[0],
        stub="",
        solution="\n".join([*imports, code]),
        examination=_checks(tests, None if more is None else [more], names=names, imports=imports, setup=setup),
        plus=plus,
    )


def _checks(
    base: list[str],
    plus: list[str] | None,
    *,
    names: list[str],
    imports: list[str] | None = None,
    reference: str = "",
    setup: str = "",
) -> dict[str, Any]:
    texts = {"imports": imports or [], "reference": reference, "setup": setup, "base": base, "plus": plus}
    return {"kind": "checks", "names": names, **texts}


def _inputs(
    row: Mapping[str, Any], solution: str, entry: str, base: list[Any], plus: list[Any] | None, *, mbpp: bool
) -> dict[str, Any]:
    return {
        "kind": "inputs",
        "reference": solution,
        "entry_point": entry,
        "mbpp": mbpp,
        "atol": float(row["atol"]),
        "base": [packed(list(given), _refused) for given in base],
        "plus": None if plus is None else [packed(list(given), _refused) for given in plus],
    }


def _header(solution: str, entry: str) -> str:
    found = re.search(rf"^def\s+{re.escape(entry)}\s*\(.*$", solution, re.MULTILINE)
    return found[0].rstrip() if found else f"def {entry}(...):"


def _refused(value: Any) -> int:
    raise TypeError(f"an input holds a {type(value).__name__}")


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row[name]
    return value if isinstance(value, str) else str(int(value))


def _rows_of(path: Path) -> Iterator[dict[str, Any]]:
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet as pq

            yield from pq.read_table(path).to_pylist()
        elif path.suffix == ".json":
            yield from json.loads(path.read_bytes())
        else:
            with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as lines:
                yield from (json.loads(line) for line in lines if line.strip())
    except (OSError, EOFError, ValueError) as error:
        raise DatasetInvalid(f"{path.name}: not the file that its name promises ({error})") from error
