"""Tests that are inputs: the program must give what the data's own solution gives, by the rules of EvalPlus 0.3.1. Inside the sandbox."""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from cpd_engine.evaluation.guests.remote import Program, ProgramFailed
from cpd_engine.evaluation.guests.tally import Tally
from cpd_engine.evaluation.guests.wire import unpacked

_RTOL = 1e-7
_FLOAT_ATOL = 1e-6

# MBPP's own tests compare these as sets, and these by whether there was a match at all.
_AS_SETS = frozenset(
    {
        "Diff",
        "common_in_nested_lists",
        "extract_singly",
        "find_char_long",
        "find_dissimilar",
        "intersection_array",
        "larg_nnum",
        "similar_elements",
    }
)
_AS_TRUTHS = frozenset({"check_str", "text_match_three", "text_starta_endb"})


def examine(examination: dict[str, Any], program: Program) -> Iterator[tuple[str, Tally]]:
    """Call `entry_point` of program and `reference` on every input of `base` and `plus`. Raises what the reference raises."""
    entry, mbpp = examination["entry_point"], examination["mbpp"]
    names: dict[str, Any] = {"__name__": "reference"}
    exec(compile(examination["reference"], "reference", "exec"), names)
    reference = names[entry]
    for suite in ("base", "plus"):
        if examination[suite] is None:
            continue
        tally = Tally()
        try:
            candidate = program.named(entry)
        except ProgramFailed as error:
            for _ in examination[suite]:
                tally.failed_by(error)
            yield suite, tally
            continue
        for packed in examination[suite]:
            given = unpacked(packed, _nothing)
            wanted = reference(*deepcopy(given))
            try:
                right = agrees(candidate(*given), wanted, given, entry=entry, mbpp=mbpp, atol=examination["atol"])
            except Exception as error:
                tally.failed_by(error)
            else:
                tally.passed() if right else tally.failed_by()
        yield suite, tally


def agrees(said: Any, wanted: Any, given: list[Any], *, entry: str, mbpp: bool, atol: float) -> bool:
    """Whether an answer is right. May raise where it is of a type that cannot be compared, which is wrong too."""
    exact = bool(said == wanted)
    if mbpp:
        match entry:
            case "are_equivalent":  # the description of Mbpp/164 leaves open what is meant
                return True
            case "sum_div":
                exact = exact or said == 0
            case "surface_Area":
                exact = exact or abs(said - _pyramid_surface(*given)) <= atol
            case "digit_distance_nums":
                exact = exact or said == _digit_distance(*given)
            case _ if entry in _AS_SETS:
                exact = set(said) == set(wanted)
            case _ if entry in _AS_TRUTHS:
                return (said if isinstance(said, bool) else said is not None) == (wanted is not None)
    elif entry == "find_zero":
        # Any zero will do; the reference's own stands even where its iteration ended early.
        return exact or abs(sum(c * math.pow(said, power) for power, c in enumerate(given[0]))) <= atol
    return exact or _close(said, wanted, atol)


def _close(said: Any, wanted: Any, atol: float) -> bool:
    """Equal up to rounding: numbers, or sequences of the same type and length of them."""
    floats = isinstance(wanted, float) or (
        isinstance(wanted, (list, tuple)) and bool(wanted) and all(isinstance(item, float) for item in wanted)
    )
    tolerance = atol or (_FLOAT_ATOL if floats else 0.0)
    if not tolerance or type(said) is not type(wanted):
        return False
    if isinstance(wanted, (list, tuple)):
        return len(said) == len(wanted) and all(_near(*pair, tolerance) for pair in zip(said, wanted, strict=True))
    return _near(said, wanted, tolerance)


def _near(said: Any, wanted: Any, tolerance: float) -> bool:
    if isinstance(wanted, (list, tuple)):
        return len(said) == len(wanted) and all(_near(*pair, tolerance) for pair in zip(said, wanted, strict=True))
    return bool(said == wanted or abs(said - wanted) <= tolerance + _RTOL * abs(wanted))


def _pyramid_surface(edge: float, height: float) -> int:
    """Of a square pyramid, taking `height` as that of the apex over the ground where the reference takes it as the slope's."""
    return round(edge**2 + 2 * edge * math.sqrt((edge / 2) ** 2 + height**2))


def _digit_distance(first: int, second: int) -> int:
    """Sum of the differences of digits, the shorter number padded with zeros."""
    width = max(len(str(first)), len(str(second)))
    pairs = zip(str(first).zfill(width), str(second).zfill(width), strict=True)
    return sum(abs(int(a) - int(b)) for a, b in pairs)


def _nothing(number: int) -> Any:
    raise ProgramFailed(f"an input holds thing {number}")
