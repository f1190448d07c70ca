"""What runs inside a sandbox, tried outside: values on the wire, rules of equality, the counting of asserts."""

from __future__ import annotations

import json
import math
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpd_engine.evaluation.guests import checks, inputs
from cpd_engine.evaluation.guests.remote import ProgramFailed
from cpd_engine.evaluation.guests.tally import Tally
from cpd_engine.evaluation.guests.wire import packed, unpacked


class Point(NamedTuple):
    """A tuple by another name."""

    x: int
    y: int


def over_the_wire(value: Any) -> Any:
    things: list[Any] = []

    def keep(thing: Any) -> int:
        things.append(thing)
        return len(things) - 1

    return unpacked(json.loads(json.dumps(packed(value, keep))), things.__getitem__)


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.complex_numbers(allow_nan=False),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=20,
)


@given(PLAIN)
def test_plain_data_arrives_as_it_was(value: Any) -> None:
    found = over_the_wire(value)

    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "value",
    [
        2**53,
        -(2**200),
        1 << 300_000,
        math.inf,
        {1, 2},
        frozenset({3}),
        deque([1, 2]),
        range(3, 9, 2),
        Decimal("1.10"),
        Fraction(1, 3),
        b"\0",
        bytearray(b"x"),
        {(1, 2): [3]},
        {},
        (),
        "\ud800",
        1 + 2j,
        -0.0,
    ],
    ids=lambda value: type(value).__name__,
)
def test_so_do_the_other_plain_types(value: Any) -> None:
    assert over_the_wire(value) == value


def test_what_is_a_kind_of_plain_data_arrives_plain() -> None:
    assert over_the_wire(Point(1, 2)) == (1, 2)
    assert over_the_wire(Counter("aab")) == {"a": 2, "b": 1}
    assert over_the_wire(OrderedDict(a=1)) == {"a": 1}
    assert over_the_wire(np.float64(0.5)) == 0.5
    assert over_the_wire(np.int64(3)) == 3
    assert over_the_wire(np.bool_(True)) is True


def test_anything_else_is_handed_on_as_itself_and_a_cycle_is_an_error() -> None:
    thing = object()
    cycle: list[Any] = []
    cycle.append(cycle)

    assert over_the_wire([thing]) == [thing]
    with pytest.raises(RecursionError):
        over_the_wire(cycle)


@pytest.mark.parametrize("data", [{"object": 1}, {"int": 5}, {"tuple": 3}, {}, {"thing": "x"}])
def test_what_the_wire_does_not_write_is_refused(data: Any) -> None:
    with pytest.raises(ValueError, match="not a packed value"):
        unpacked(data, lambda number: number)


@pytest.mark.parametrize(
    ("said", "wanted", "atol", "right"),
    [
        (3, 3, 0, True),
        (3.0, 3, 0, True),
        ("3", 3, 0, False),
        (0.1 + 0.2, 0.3, 0, True),
        (0.3001, 0.3, 0, False),
        ([0.1 + 0.2], [0.3], 0, True),
        ((0.1 + 0.2,), [0.3], 0, False),
        ([0.3, 0.3], [0.3], 0, False),
        ([1, 2], [1, 3], 0, False),
        (1.05, 1.0, 0.1, True),
        (None, 1.0, 0, False),
        (math.inf, math.inf, 0, True),
        (math.nan, 1.0, 0, False),
    ],
)
def test_answers_agree_up_to_the_rounding_that_evalplus_allows(
    said: Any, wanted: Any, atol: float, right: bool
) -> None:
    assert inputs.agrees(said, wanted, [], entry="f", mbpp=False, atol=atol) is right


@pytest.mark.parametrize(
    ("entry", "mbpp", "said", "wanted", "given", "right"),
    [
        ("find_zero", False, -0.5, -0.50001, [[1, 2]], True),
        ("find_zero", False, 7.0, 7.0, [[1, 2]], True),
        ("find_zero", False, 0.5, -0.5, [[1, 2]], False),
        ("find_zero", True, 0.25, -0.5, [[1, 2]], False),
        ("are_equivalent", True, 1, 2, [1, 2], True),
        ("sum_div", True, 0, 9, [8], True),
        ("surface_Area", True, 33, 1, [3, 4], False),
        ("surface_Area", True, round(9 + 6 * math.sqrt(1.5**2 + 16)), 1, [3, 4], True),
        ("digit_distance_nums", True, 2, 9, [1, 102], True),
        ("Diff", True, [2, 1, 1], [1, 2], [], True),
        ("check_str", True, object(), object(), [], True),
        ("check_str", True, False, object(), [], False),
        ("check_str", True, None, None, [], True),
        ("check_str", False, 1, 2, [], False),
    ],
)
def test_problems_with_several_right_answers_take_them(
    entry: str, mbpp: bool, said: Any, wanted: Any, given: list[Any], right: bool
) -> None:
    assert inputs.agrees(said, wanted, given, entry=entry, mbpp=mbpp, atol=1e-4) is right


class Here:
    """A program in this process."""

    def __init__(self, **names: Any) -> None:
        self._names = names

    def named(self, name: str) -> Any:
        if name not in self._names:
            raise ProgramFailed(f"missing {name}")
        return self._names[name]


def counted(*tests: str, reference: str = "", setup: str = "", **names: Any) -> Tally:
    texts = {"imports": [], "reference": reference, "setup": setup, "base": list(tests), "plus": None}
    found = checks.examine({"names": ["f"], **texts}, Here(**names))  # type: ignore[arg-type]  # a program in this process
    [(suite, tally)] = found
    assert suite == "base"
    return tally


def fails(x: Any) -> Any:
    raise ProgramFailed("ValueError")


LOOP = "def check(candidate):\n    for n in range(10):\n        assert candidate(n) == n\ncheck(f)"


def test_every_assert_counts_and_one_that_fails_does_not_end_the_rest() -> None:
    tally = counted(LOOP, f=lambda n: n if n % 2 else -1)

    assert (tally.tests, tally.failed, tally.reason) == (10, 5, "wrong answer")


def test_what_the_program_raises_in_a_test_fails_that_one() -> None:
    tally = counted("assert f(1) == 1", "assert True", f=fails)

    assert (tally.tests, tally.failed, tally.reason) == (2, 1, "ValueError")


def test_a_call_that_asserts_elsewhere_counts_where_it_raises() -> None:
    text = "def near(a, b):\n    if a != b: raise AssertionError\nfor n in range(4):\n    near(f(n), n)"

    assert (counted(text, f=lambda n: n).tests, counted(text, f=lambda n: n).failed) == (1, 0)
    assert (counted(text, f=lambda _: 2).tests, counted(text, f=lambda _: 2).failed) == (3, 3)


def test_helpers_of_the_reference_are_there_and_the_function_is_the_program_s() -> None:
    tally = counted(
        "assert f(double(2)) == 5", reference="def double(n): return 2 * n\ndef f(n): return 0", f=lambda n: n + 1
    )

    assert (tally.tests, tally.failed) == (1, 0)


def test_without_the_function_one_test_has_failed() -> None:
    tally = counted(LOOP)

    assert (tally.tests, tally.failed, tally.reason) == (1, 1, "missing f")


def test_tests_that_cannot_run_raise() -> None:
    def examine() -> Iterator[Any]:
        return checks.examine(
            {"names": [], "imports": ["import nowhere"], "reference": "", "setup": "", "base": [], "plus": None},
            Here(),  # type: ignore[arg-type]  # a program in this process
        )

    with pytest.raises(ModuleNotFoundError):
        list(examine())
