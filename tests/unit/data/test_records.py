from __future__ import annotations

import io
import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpd_engine.data.records import (
    MAX_ROW_BYTES,
    BadRow,
    Row,
    Turn,
    detect_format,
    from_json,
    read_lines,
    read_rows,
    to_json,
)


def _read(*rows: Any) -> list[Row | BadRow]:
    return list(read_rows(row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows))


def _one(row: Any) -> Row:
    (read,) = _read(row)
    assert isinstance(read, Row), read
    return read


def _bad(row: Any) -> BadRow:
    (read,) = _read(row)
    assert isinstance(read, BadRow), read
    return read


def test_instruction_rows_are_read() -> None:
    row = _one({"instruction": "Add.", "input": "1 2", "output": "3", "topic": "ignored"})
    assert row == Row("row-1", "Add.", "1 2", "3", ("3",))
    assert _one({"instruction": "Hi", "input": None, "output": "Ho"}).input == ""


def test_a_list_of_outputs_is_several_references() -> None:
    row = _one({"instruction": "Greet.", "output": ["Hi", "Hello", "Hi"]})
    assert (row.response, row.references) == ("Hi", ("Hi", "Hello"))


def test_prompt_rows_are_read() -> None:
    assert _one({"id": 7, "prompt": "2+2", "completion": "4"}) == Row("7", "2+2", "", "4", ("4",))


def test_a_single_user_turn_is_an_instruction() -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    assert _one({"messages": turns}) == Row("row-1", "Hi", "", "Ho", ("Ho",))


def test_the_last_assistant_turn_is_the_response_and_earlier_turns_the_prompt() -> None:
    row = _one(
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "Ho"},
                {"role": "user", "content": "Bye"},
                {"role": "assistant", "content": "Ciao"},
                {"role": "user", "content": "never answered"},
            ]
        }
    )
    assert row.response == "Ciao"
    assert row.turns == (Turn("system", "Be brief."), Turn("user", "Hi"), Turn("assistant", "Ho"), Turn("user", "Bye"))
    assert row.instruction == "Be brief.\n\nUser: Hi\n\nAssistant: Ho\n\nUser: Bye"


def test_the_official_rows_of_benchmarks_are_read() -> None:
    assert _one({"question": "2+2?", "answer": "2+2 is 4.\n#### 4"}).response == "2+2 is 4.\n#### 4"
    solved = _one({"problem": "2+2?", "solution": "It is $\\boxed{4}$.", "answer": "4", "level": 1})
    assert (solved.instruction, solved.references) == ("2+2?", ("It is $\\boxed{4}$.", "4"))
    assert _one({"problem": "2+2?", "answer": "4"}).references == ("4",)
    dolly = {"instruction": "Sum up.", "context": "Long.", "response": "Short.", "category": "summarization"}
    assert _one(dolly) == Row("row-1", "Sum up.", "Long.", "Short.", ("Short.",))
    human = {"task_id": "HumanEval/0", "prompt": "def f():\n", "canonical_solution": "    return 1\n", "test": "…"}
    assert _one(human) == Row("row-1", "def f():\n", "", "    return 1\n", ("    return 1\n",))
    assert _one({"text": "Write f.", "code": "def f(): ...", "test_list": []}).instruction == "Write f."


def test_a_field_of_another_format_does_not_change_that_of_a_row() -> None:
    assert _one(GOOD | {"code": "C-17", "text": "whole"}) == _one(GOOD)
    assert _one({"prompt": "a", "completion": "b", "code": "C-17"}).response == "b"


GOOD = {"instruction": "a", "output": "b"}
BAD_ROWS: list[tuple[str, Any, int | None]] = [
    ("invalid_json", b'{"instruction": "a", "output": }', 32),
    ("invalid_json", b'{"instruction": "a"', 20),
    ("invalid_json", b'{"instruction": ' + b"[" * 100_000, None),
    ("invalid_json", b'{"instruction": "a", "output": ' + b"9" * 5000 + b"}", None),
    ("not_utf8", b'{"instruction": "\xff", "output": "b"}', 18),
    ("nul_character", b'{"instruction": "\x00", "output": "b"}', 18),
    ("nul_character", b'{"instruction": "\\u0000", "output": "b"}', 2),
    ("lone_surrogate", b'{"instruction": "a", "output": "\\ud800"}', 22),
    ("lone_surrogate", b'{"prompt": "\\udc00x", "completion": "b"}', 2),
    ("non_finite_number", b'{"instruction": "a", "output": "b", "weight": NaN}', 47),
    ("non_finite_number", b'{"instruction": "a", "output": "b", "weight": -Infinity}', 47),
    ("duplicate_key", b'{"instruction": "a", "output": "b", "output": "c"}', 22),
    ("not_an_object", [1, 2], 1),
    ("not_an_object", "text", 1),
    ("unknown_format", {"query": "a", "reply": "b"}, None),
    ("missing_field", {"instruction": "a"}, None),
    ("missing_field", {"prompt": "a"}, None),
    ("missing_field", {"question": "a"}, None),
    ("missing_field", {"problem": "a"}, None),
    ("missing_field", {"canonical_solution": "a"}, None),
    ("missing_field", {"messages": [{"role": "user", "content": "a"}]}, 2),
    ("wrong_type", {"instruction": 5, "output": "b"}, 2),
    ("wrong_type", {"instruction": "a", "output": 5}, 22),
    ("wrong_type", {"instruction": "a", "output": ["b", 5]}, 22),
    ("wrong_type", {"instruction": "a", "output": None}, 22),
    ("wrong_type", {"messages": "a"}, 2),
    ("wrong_type", GOOD | {"id": True}, 37),
    ("wrong_type", GOOD | {"id": 1.5}, 37),
    ("invalid_id", GOOD | {"id": ""}, 37),
    ("invalid_message", {"messages": [{"role": "robot", "content": "a"}]}, 2),
    ("invalid_message", {"messages": [{"role": "user"}]}, 2),
    ("empty_response", {"instruction": "a", "output": "  \n"}, 22),
    ("empty_response", {"instruction": "a", "output": []}, 22),
    ("empty_response", {"prompt": "a", "completion": ""}, 17),
    ("empty_prompt", {"instruction": " ", "input": "", "output": "b"}, 2),
    ("empty_prompt", {"messages": [{"role": "assistant", "content": "a"}]}, 2),
    ("too_large", {"instruction": "a" * MAX_ROW_BYTES, "output": "b"}, None),
]


@pytest.mark.parametrize(("code", "row", "column"), BAD_ROWS, ids=[f"{n}-{bad[0]}" for n, bad in enumerate(BAD_ROWS)])
def test_a_bad_row_is_told_with_its_code_and_place(code: str, row: Any, column: int | None) -> None:
    bad = _bad(row)
    assert (bad.code, bad.line, bad.column) == (code, 1, column)
    assert bad.suggestion
    assert len(bad.reason) < 120


def test_bad_rows_neither_stop_the_reading_nor_shift_the_lines() -> None:
    read = _read(b"\xef\xbb\xbf" + json.dumps(GOOD).encode(), b"  \n", b"{", GOOD)
    assert [(type(row).__name__, row.id if isinstance(row, Row) else row.line) for row in read] == [
        ("Row", "row-1"),
        ("BadRow", 3),
        ("Row", "row-4"),
    ]


def test_an_id_that_is_taken_is_bad_and_a_made_up_one_gives_way() -> None:
    read = _read(GOOD | {"id": "row-3"}, GOOD | {"id": "row-3"}, GOOD)
    assert [row.id if isinstance(row, Row) else row.code for row in read] == ["row-3", "duplicate_id", "row-3.2"]


def test_a_line_without_end_is_cut_where_it_is_too_large() -> None:
    stream = io.BytesIO(b'"' + b"a" * 5 * MAX_ROW_BYTES + b"\n" + json.dumps(GOOD).encode())
    first, second = read_rows(read_lines(stream))
    assert isinstance(first, BadRow)
    assert first.code == "too_large"
    assert isinstance(second, Row)
    assert second.id == "row-2"


@pytest.mark.parametrize("length", [MAX_ROW_BYTES - 1, MAX_ROW_BYTES, MAX_ROW_BYTES + 1, 2 * MAX_ROW_BYTES + 2])
def test_lines_about_the_limit_stay_one_line_each(length: int) -> None:
    assert len(list(read_lines(io.BytesIO((b"a" * length + b"\n") * 2)))) == 2


def test_formats_are_told_apart_by_their_fields() -> None:
    assert detect_format({"instruction": "", "output": ""}) == "instruction"
    assert detect_format({"prompt": ""}) == "prompt"
    assert detect_format({"messages": []}) == "messages"
    assert detect_format({"text": ""}) == "unknown"
    assert detect_format({"messages": None, "prompt": None, "instruction": ""}) == "instruction"


_TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1).filter(str.strip)


@given(_TEXT, _TEXT, st.lists(_TEXT, min_size=1, unique=True), st.booleans())
def test_what_is_written_is_read_back(prompt: str, given_input: str, answers: list[str], conversation: bool) -> None:
    turns = [{"role": "system", "content": given_input}, {"role": "user", "content": prompt}]
    row = _one(
        {"messages": [*turns, {"role": "assistant", "content": answers}]}
        if conversation
        else {"instruction": prompt, "input": given_input, "output": answers}
    )
    line = to_json(row)
    assert "\n" not in line
    assert _one(line.encode()) == from_json(line.encode()) == row


def test_a_row_at_the_limit_survives_being_written_and_read_back() -> None:
    frame = len(json.dumps({"prompt": "a", "completion": ""}))
    row = _one({"prompt": "a", "completion": "b" * (MAX_ROW_BYTES - frame)})
    assert from_json(to_json(row).encode()) == row


@given(st.binary(max_size=200))
def test_no_bytes_whatever_raise(line: bytes) -> None:
    for row in read_rows([line]):
        assert isinstance(row, Row | BadRow)


def test_reading_rows_imports_the_standard_library_only() -> None:
    code = (
        "import sys; before = set(sys.modules); import cpd_engine.data.records; "
        "print({m.split('.')[0] for m in set(sys.modules) - before} - set(sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{'cpd_engine'}"


def test_tests_of_a_row_are_kept_in_any_format_and_come_back() -> None:
    as_mbpp = {"test_list": ["assert f(1) == 1"], "test_imports": ["import math"], "test_setup_code": "x = 1"}
    as_human_eval = {"test": "def check(candidate):\n    assert candidate(1) == 1\n", "entry_point": "f"}
    for asked in ({"prompt": "Write f.", "completion": "def f(x): ..."}, {"text": "Write f.", "code": "def f(x): ..."}):
        for tests in (as_mbpp, as_human_eval):
            row = _one(asked | tests)
            assert row.tests is not None
            assert row.tests.fields() == tests
            assert from_json(to_json(row).encode()) == row == _one(json.loads(to_json(row)))


@pytest.mark.parametrize(
    "fields", [{"test": True}, {"test": "x"}, {"test_list": []}, {"test_list": [1]}, {"test_list": "assert f()"}, {}]
)
def test_fields_of_the_same_names_that_are_no_tests_are_left_alone(fields: dict[str, Any]) -> None:
    row = _one({"instruction": "Hello.", "output": "Hi."} | fields)
    assert row.tests is None
    assert json.loads(to_json(row)).keys() == {"id", "instruction", "input", "output"}
