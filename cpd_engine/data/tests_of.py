"""The tests that a row of code may carry, in the words of HumanEval and MBPP."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_LISTS, _TEXTS = ("test_list", "test_imports"), ("test", "entry_point", "test_setup_code")
# What no text may hold: half of a surrogate pair, and NUL.
_UNFIT = re.compile("[\ud800-\udfff\0]")
FIELDS = (*_LISTS, *_TEXTS)


@dataclass(frozen=True, slots=True)
class RowTests:
    """Either asserts (`test_list`, with what goes before them), or a `test` that defines check(candidate) and the function to try."""

    test_list: tuple[str, ...] = ()
    test_imports: tuple[str, ...] = ()
    test_setup_code: str = ""
    test: str = ""
    entry_point: str = ""

    def fields(self) -> dict[str, Any]:
        """Those that say something, as a row has them; `read_tests` reads them back."""
        values = {name: getattr(self, name) for name in FIELDS}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items() if value}


def read_tests(fields: Mapping[str, Any]) -> RowTests | None:
    """The tests in a row's fields; None where these are none, or something else of the same name."""
    lists = {name: tuple(fields[name]) if _is_list(fields.get(name)) else () for name in _LISTS}
    texts = {name: fields[name] if _is_text(fields.get(name)) else "" for name in _TEXTS}
    whole = bool(texts["test"] and texts["entry_point"])
    if not whole and not lists["test_list"]:
        return None
    return RowTests(
        test_list=lists["test_list"],
        test_imports=lists["test_imports"],
        test_setup_code=texts["test_setup_code"],
        test=texts["test"] if whole else "",
        entry_point=texts["entry_point"] if whole else "",
    )


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_text, value))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and not _UNFIT.search(value)
