"""Values on their way between the tests and the program they examine: plain data by value, anything else as the number of a thing.

Runs inside the sandbox, so it needs nothing but the standard library. What arrives is built here from plain types, never unpickled: a
program can send wrong values, but no object that equals everything and no code.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

# Above this JSON readers may round, and Python writes a decimal in quadratic time.
_LARGE = 2**53


def packed(value: Any, keep: Callable[[Any], int]) -> Any:
    """`value` as JSON has it; what is no plain data goes through `keep`, which returns its number. RecursionError for cycles."""
    match value:
        case None | bool():
            return value
        case int():
            number = int(value)
            return number if abs(number) < _LARGE else {"int": hex(number)}
        case float():
            return float(value)
        case str():
            return str(value)
        case list():
            return [packed(item, keep) for item in value]
        case tuple() | set() | frozenset() | deque():
            kind = next(kind for kind in (tuple, set, frozenset, deque) if isinstance(value, kind))
            return {kind.__name__: [packed(item, keep) for item in value]}
        case dict():
            return {"dict": [[packed(key, keep), packed(item, keep)] for key, item in value.items()]}
        case bytes() | bytearray():
            return {"bytes": bytes(value).hex()}
        case complex():
            return {"complex": [value.real, value.imag]}
        case range():
            return {"range": [value.start, value.stop, value.step]}
        case Decimal() | Fraction():
            return {type(value).__name__: str(value)}
    if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        return packed(value.item(), keep)
    return {"thing": keep(value)}


def unpacked(data: Any, thing: Callable[[int], Any]) -> Any:
    """The value that was packed; `thing` makes what stands for a number. ValueError for what `packed` does not write."""
    match data:
        case list():
            return [unpacked(item, thing) for item in data]
        case {"thing": int(number)}:
            return thing(number)
        case {"dict": list(pairs)}:
            return {unpacked(key, thing): unpacked(item, thing) for key, item in pairs}
        case {"tuple": list(items)} | {"set": list(items)} | {"frozenset": list(items)} | {"deque": list(items)}:
            kinds = {"tuple": tuple, "set": set, "frozenset": frozenset, "deque": deque}
            return kinds[next(iter(data))](unpacked(item, thing) for item in items)
        case {"int": str(text)}:
            return int(text, 16)
        case {"bytes": str(text)}:
            return bytes.fromhex(text)
        case {"complex": [float(real), float(imaginary)]}:
            return complex(real, imaginary)
        case {"range": [int(start), int(stop), int(step)]}:
            return range(start, stop, step)
        case {"Decimal": str(text)}:
            return Decimal(text)
        case {"Fraction": str(text)}:
            return Fraction(text)
        case dict():
            raise ValueError("not a packed value")
    return data
