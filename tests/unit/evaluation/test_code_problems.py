"""The published forms of the code tasks are read as one kind of problem."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cpd_engine.errors import DatasetInvalid
from cpd_engine.evaluation.code import CodeTask, read_problems
from cpd_engine.evaluation.mbpp_inputs import with_tuples
from tests.shared_data import shared_data

HUMAN_EVAL: dict[str, Any] = {
    "task_id": "HumanEval/900",
    "prompt": 'def add(a, b):\n    """ Sum of {a} and {b}. """\n',
    "entry_point": "add",
    "canonical_solution": "    return a + b\n",
    "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n",
}
INPUTS: dict[str, Any] = {"base_input": [[1, 2]], "plus_input": [[3, 4], [5, 6]], "atol": 0}
MBPP_FULL: dict[str, Any] = {
    "task_id": 900,
    "text": "Write a function to find the height of a tree.",
    "code": "class Node:\r\n    pass\r\n\r\ndef height(node):\r\n    return 1",
    "test_list": ["assert (height(root)) == 1", "assert height(root1) == 2"],
    "test_setup_code": "root = Node()\nroot1 = Node()",
    "challenge_test_list": [],
}
MBPP_SANITIZED: dict[str, Any] = {
    "source_file": "x.ipynb",
    "task_id": 901,
    "prompt": "Write a function to add.",
    "code": "def add(a, b):\n    return a + b",
    "test_imports": ["import math"],
    "test_list": ["assert math.isclose(add(1, 2), 3)"],
}
HUB_MBPP_PLUS = MBPP_SANITIZED | {"test": "for a, b, c in [(1, 2, 3)]:\n    assert add(a, b) == c"}
RELEASED_MBPP_PLUS: dict[str, Any] = {
    "task_id": "Mbpp/2",
    "prompt": "'''\nShared elements of two tuples.\n'''",
    "entry_point": "shared",
    "canonical_solution": "\ndef shared(one, two):\n    return tuple(set(one) & set(two))\n",
    "base_input": [[[1], [1, 2]]],
    "plus_input": [[[], []]],
    "atol": 0,
}


def test_human_eval_is_its_own_text_and_check() -> None:
    [problem] = read_problems([HUMAN_EVAL], "humaneval")

    assert (problem.id, problem.entry_point, problem.stub) == ("HumanEval/900", "add", HUMAN_EVAL["prompt"])
    assert problem.solution == HUMAN_EVAL["prompt"] + HUMAN_EVAL["canonical_solution"]
    assert problem.examination["base"] == [HUMAN_EVAL["test"] + "\ncheck(add)\n"]
    assert (problem.plus, problem.joint, problem.examination["plus"]) == (False, False, None)


def test_the_prompt_is_the_paper_s() -> None:
    [problem] = read_problems([HUMAN_EVAL], "humaneval")

    assert problem.paper_prompt == (
        "Please provide a self-contained Python script that solves the following problem in a markdown code block:\n"
        "\n### Problem:\n"
        'def add(a, b):\n    """ Sum of {a} and {b}. """\n'
        "\n### Response:\n"
        "Below is a Python script with a self-contained function that solves the problem and passes corresponding tests:\n"
    )
    assert problem.prompt == (
        "Please provide a self-contained Python script that solves the following problem in a markdown code block:\n\n"
        'def add(a, b):\n    """ Sum of {a} and {b}. """'
    )


def test_the_released_human_eval_plus_is_inputs_and_the_hub_s_is_one_suite() -> None:
    [released] = read_problems([HUMAN_EVAL | INPUTS], "humaneval_plus")
    [hub] = read_problems([HUMAN_EVAL], "humaneval_plus")

    assert (released.examination["kind"], released.examination["base"]) == ("inputs", [[1, 2]])
    assert (released.examination["plus"], released.plus, released.joint) == ([[3, 4], [5, 6]], True, False)
    assert (hub.examination["kind"], hub.plus, hub.joint) == ("checks", True, True)


def test_the_original_tests_are_taken_from_a_file_that_has_more() -> None:
    [human_eval] = read_problems([HUMAN_EVAL | INPUTS], "humaneval")
    [mbpp] = read_problems([RELEASED_MBPP_PLUS], "mbpp")

    assert (human_eval.examination["kind"], human_eval.plus) == ("checks", False)
    assert (mbpp.examination["plus"], mbpp.plus) == (None, False)


def test_mbpp_takes_from_the_program_what_its_code_defines_and_its_tests_use() -> None:
    [full] = read_problems([MBPP_FULL], "mbpp")
    [sanitized] = read_problems([MBPP_SANITIZED], "mbpp")

    assert (full.id, full.entry_point) == ("900", "height")
    assert full.examination["names"] == ["height", "Node"]
    assert full.examination["setup"] == MBPP_FULL["test_setup_code"]
    assert full.statement == '"""\nWrite a function to find the height of a tree.\nassert (height(root)) == 1\n"""'
    assert (sanitized.examination["names"], sanitized.examination["imports"]) == (["add"], ["import math"])


def test_mbpp_plus_has_two_suites_in_either_form() -> None:
    [hub] = read_problems([HUB_MBPP_PLUS], "mbpp_plus")
    [released] = read_problems([RELEASED_MBPP_PLUS], "mbpp_plus")

    assert (hub.examination["base"], hub.examination["plus"]) == (HUB_MBPP_PLUS["test_list"], [HUB_MBPP_PLUS["test"]])
    assert released.statement.endswith("'''\ndef shared(one, two):")
    assert released.examination["base"] == [[{"tuple": [1]}, {"tuple": [1, 2]}]]


@pytest.mark.parametrize(
    ("task_id", "given", "wanted"),
    [
        ("Mbpp/2", [[1], [2]], [(1,), (2,)]),
        ("Mbpp/63", [[[1, 2]]], [[(1, 2)]]),
        ("Mbpp/259", [[[1, 2]], [[3, 4]]], [((1, 2),), ((3, 4),)]),
        ("Mbpp/75", [[[1]], 6], [[(1,)], 6]),
        ("Mbpp/106", [[1], [2]], [[1], (2,)]),
        ("Mbpp/115", [[[1, 2], []]], [[{1, 2}, {}]]),
        ("Mbpp/124", ["1", "2j"], [1.0, 2j]),
        ("Mbpp/252", ["1+1j"], [1 + 1j]),
        ("Mbpp/250", [[1, 2], 1], [(1, 2), 1]),
        ("Mbpp/278", [[1, [2, [3]]]], [(1, (2, [3]))]),
        ("Mbpp/307", [[1], 2, 3], [(1,), 2, 3]),
        ("Mbpp/722", [{"a": [1, 2]}, 3], [{"a": (1, 2)}, 3]),
        ("Mbpp/580", [[1, [2, [3]]]], [(1, (2, (3,)))]),
        ("Mbpp/3", [[1], 2], [[1], 2]),
    ],
)
def test_what_json_has_lost_of_an_input_is_restored(task_id: str, given: list[Any], wanted: list[Any]) -> None:
    [found] = with_tuples(task_id, [given])

    assert found == wanted
    assert [type(each) for each in found] == [type(each) for each in wanted]


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".json", ".parquet"])
def test_a_file_is_read_by_its_suffix(tmp_path: Path, suffix: str) -> None:
    path, rows = tmp_path / f"rows{suffix}", [HUMAN_EVAL, HUMAN_EVAL | {"task_id": "HumanEval/901"}]
    lines = "\n".join(json.dumps(row) for row in rows).encode() + b"\n\n"
    match suffix:
        case ".parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
        case ".jsonl.gz":
            path.write_bytes(gzip.compress(lines))
        case ".json":
            path.write_text(json.dumps(rows), "utf-8")
        case _:
            path.write_bytes(lines)

    assert [problem.id for problem in read_problems(path, "humaneval")] == ["HumanEval/900", "HumanEval/901"]


@pytest.mark.parametrize(
    ("row", "task", "message"),
    [
        ({"instruction": "x"}, "humaneval", "row 1 .* no field 'prompt'"),
        ({**HUMAN_EVAL, "test": None}, "humaneval", "row 1"),
        ({**MBPP_SANITIZED, "test_list": ["assert other(1)"]}, "mbpp", "nothing that its code defines"),
        (MBPP_SANITIZED, "mbpp_plus", "no field 'test'"),
        ({**RELEASED_MBPP_PLUS, "base_input": 3}, "mbpp_plus", "row 1"),
    ],
)
def test_a_row_of_another_form_is_named(row: dict[str, Any], task: CodeTask, message: str) -> None:
    with pytest.raises(DatasetInvalid, match=message):
        read_problems([row], task)


@pytest.mark.parametrize(
    ("name", "contents"), [("x.jsonl", b"{"), ("x.jsonl.gz", b"no gzip"), ("x.parquet", b"PAR"), ("x.json", b"[")]
)
def test_a_file_that_is_not_what_it_says_is_named(tmp_path: Path, name: str, contents: bytes) -> None:
    (tmp_path / name).write_bytes(contents)

    with pytest.raises(DatasetInvalid, match=name):
        read_problems(tmp_path / name, "humaneval")


def test_no_rows_are_no_task() -> None:
    with pytest.raises(DatasetInvalid, match="no rows"):
        read_problems([], "mbpp")


@pytest.mark.parametrize(
    ("task", "file", "count"),
    [
        ("humaneval", "humaneval/HumanEval.jsonl.gz", 164),
        ("humaneval_plus", "humaneval/HumanEvalPlus-v0.1.0.jsonl.gz", 164),
        ("mbpp", "mbpp/sample_sanitized.jsonl", 30),
        ("mbpp_plus", "mbpp/sample_plus.jsonl", 30),
    ],
)
def test_the_real_files_are_read_whole(task: CodeTask, file: str, count: int) -> None:
    problems = read_problems(shared_data(*file.split("/")), task)

    assert len({problem.id for problem in problems}) == count
    assert all(problem.entry_point in problem.statement for problem in problems)
