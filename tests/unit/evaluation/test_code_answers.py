"""Which program an answer holds."""

from __future__ import annotations

import pytest

from cpd_engine.evaluation.code_answers import program_of

STUB = 'from typing import List\n\n\ndef add(xs: List[int]) -> int:\n    """ Sum. """\n'
SCRIPT = "import math\n\n\ndef add(xs):\n    return math.fsum(xs)\n"


def program(answer: str, *, stub: str = STUB) -> str | None:
    return program_of(answer, entry_point="add", stub=stub)


@pytest.mark.parametrize(
    "answer",
    [
        f"```python\n{SCRIPT}```",
        f"Here it is:\n\n```py\n{SCRIPT}```\nIt adds the numbers.",
        f"```\n{SCRIPT}",
        f"```python\nprint('usage')\n```\nand\n```python\n{SCRIPT}```",
        # The prompt ended with an open fence, so the answer begins within.
        f"{SCRIPT}```\nHope this helps!",
        f"{SCRIPT}\nThis function adds the numbers.\nYou call it so:\n",
        f"Sure. The solution:\n{SCRIPT}",
        SCRIPT,
        f"~~~\n{SCRIPT}~~~\n",
    ],
)
def test_a_script_is_found_wherever_it_stands_and_stands_alone(answer: str) -> None:
    found = program(answer)

    assert found is not None
    assert found.strip() == SCRIPT.strip()


def test_the_first_block_that_has_the_function_is_taken() -> None:
    first, second = "def add(xs):\n    return 1\n", "def add(xs):\n    return 2\n"

    assert program(f"```\n{first}```\n```\n{second}```") == first


@pytest.mark.parametrize(
    "answer",
    [
        "    return sum(xs)\n",
        "    return sum(xs)\n\n\nprint(add([1]))\n",
        "    return sum(xs)\n\ndef other():\n    pass\n",
        "\n    return sum(xs)\n# the end",
        "return sum(xs)",
        "```python\n    return sum(xs)\n```",
        "    return sum(xs)\n```\nand so on",
        "    return sum(xs)\nif __name__ == '__main__':\n    add([])",
        "    return sum(xs)\nThis is the sum.",
    ],
)
def test_a_completion_goes_on_from_the_stub_up_to_the_first_line_that_is_not_indented(answer: str) -> None:
    found = program(answer)

    assert found is not None
    assert found.startswith(STUB)
    assert found.removeprefix(STUB).strip() == "return sum(xs)"
    assert found.removeprefix(STUB).strip("\n").startswith("    return")


def test_a_completion_of_several_lines_keeps_their_indentation_when_its_first_line_was_stripped() -> None:
    found = program("total = 0\n    for x in xs:\n        total += x\n    return total")

    assert found == STUB + "    total = 0\n    for x in xs:\n        total += x\n    return total\n"


def test_a_fenced_script_without_the_function_is_run_all_the_same_where_there_is_no_stub() -> None:
    assert program("```\ndef plus(xs):\n    return 0\n```", stub="") == "def plus(xs):\n    return 0\n"


@pytest.mark.parametrize("answer", ["", "\n\n", "I cannot do that.", "```\n```"])
def test_without_stub_and_code_there_is_no_program(answer: str) -> None:
    assert program(answer, stub="") is None


def test_an_empty_answer_is_no_completion() -> None:
    assert program("") is None
    assert program("\n \n") is None
