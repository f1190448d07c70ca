"""What JSON has lost of MBPP+'s inputs: which of their lists are tuples, sets or numbers. By task, as EvalPlus 0.3.1 restores them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Inputs = list[Any]


def with_tuples(task_id: str, inputs: Sequence[Inputs]) -> list[Inputs]:
    """The arguments [inputs, arguments] of `Mbpp/N` as the solution takes them."""
    number = task_id.rpartition("/")[2]
    restore = _RESTORE.get(int(number)) if number.isdecimal() else None
    return [list(given) if restore is None else restore(given) for given in inputs]


def _arguments(given: Inputs) -> Inputs:
    """Each argument is a tuple."""
    return [tuple(argument) for argument in given]


def _rows(given: Inputs) -> Inputs:
    """Each argument is a list of tuples."""
    return [[tuple(row) for row in argument] for argument in given]


def _nested(given: Inputs) -> Inputs:
    """Each argument is a tuple of tuples."""
    return [tuple(tuple(row) for row in argument) for argument in given]


def _first_rows(given: Inputs) -> Inputs:
    """The first argument is a list of tuples; one more follows."""
    return [[tuple(row) for row in given[0]], given[1]]


def _first(given: Inputs) -> Inputs:
    return [tuple(given[0]), *given[1:]]


def _second(given: Inputs) -> Inputs:
    return [given[0], tuple(given[1])]


def _sets(given: Inputs) -> Inputs:
    """A list of sets, the empty ones dicts: so the tests of EvalPlus have it."""
    return [[set(item) if isinstance(item, list) and item else {} for item in given[0]]]


def _mixed(given: Inputs) -> Inputs:
    """A tuple whose lists are tuples, one level deep."""
    return [tuple(tuple(item) if isinstance(item, list) else item for item in given[0])]


def _values(given: Inputs) -> Inputs:
    """A dict of tuples first."""
    return [{key: tuple(value) for key, value in given[0].items()}, *given[1:]]


def _everything(given: Inputs) -> Inputs:
    return [_deep(argument) for argument in given]


def _deep(value: Any) -> Any:
    return tuple(_deep(item) for item in value) if isinstance(value, list) else value


def _angle(given: Inputs) -> Inputs:
    return [float(given[0]), complex(given[1])]


def _complex(given: Inputs) -> Inputs:
    return [complex(given[0])]


_SHAPES: Mapping[Callable[[Inputs], Inputs], str] = {
    _arguments: "2 116 132 143 222 261 273 394 399 421 424 429 470 560 579 596 616 630 726 740 744 809",
    _rows: "63 64 70 94 120 237 272 299 400 409 417 438 473 614 780",
    _nested: "259 401 445",
    _first_rows: "75 413 444 753",
    _first: "250 307 405 446 617 720 763 808",
    _second: "106 750",
    _sets: "115",
    _mixed: "278",
    _values: "722",
    _everything: "580 615 791",
    _angle: "124",
    _complex: "252",
}
_RESTORE = {int(number): shape for shape, numbers in _SHAPES.items() for number in numbers.split()}
