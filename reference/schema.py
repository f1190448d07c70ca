"""What a JSON schema says of a field, in words for a table: its type with its range, its default, the section of what it refers to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

Schema = Mapping[str, Any]


def type_of(schema: Schema) -> str:
    """`integer, 1 to 1000`, or the kinds that are allowed; a model is a link to its section. `null` is left out: it is the default."""
    kinds = [kind for kind in schema.get("anyOf") or schema.get("oneOf") or () if kind.get("type") != "null"]
    if kinds:
        return " or ".join(type_of(kind) for kind in kinds)
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    match schema["type"]:
        case "array":
            return _bounded(f"list ({type_of(schema['items'])})", schema, "minItems", "maxItems", "items")
        case "object":
            return _bounded("object", schema, "minProperties", "maxProperties", "fields")
        case "string":
            return _bounded(_text(schema.get("pattern")), schema, "minLength", "maxLength", "characters")
        case "boolean":
            return "`true`, `false`"
        case kind:
            return _number(kind, schema)


def _text(pattern: str | None) -> str:
    match pattern:
        case None:
            return "text"
        case r"^[^\x00-\x1f\x7f]+$":
            return "text on one line"
        case _:
            return f"text like `{pattern}`"


def _number(kind: str, schema: Schema) -> str:
    least, most = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    limits = []
    if least is not None and most is not None:
        limits.append(f"{figure(least)} to {figure(most)}")
    else:
        named = (("at least", least), ("above", above), ("at most", most), ("below", below))
        limits += [f"{word} {figure(value)}" for word, value in named if value is not None]
    if "multipleOf" in schema:
        limits.append(f"a multiple of {figure(schema['multipleOf'])}")
    return ", ".join([kind, *limits])


def _bounded(kind: str, schema: Schema, least: str, most: str, unit: str) -> str:
    match schema.get(least), schema.get(most):
        case None, None:
            return kind
        case ((None | 0), upper):
            return f"{kind}, at most {upper} {unit}"
        case lower, None:
            return f"{kind}, at least {lower} {unit}"
        case lower, upper:
            return f"{kind}, {lower} to {upper} {unit}"


def figure(value: float) -> str:
    """A number as people write it; powers of two that nobody counts by digits as such."""
    for power in (24, 31, 53):
        if value == 2**power:
            return f"2^{power}"
        if value == 2**power - 1:
            return f"2^{power} − 1"
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def default_of(name: str, schema: Schema, required: frozenset[str]) -> str:
    """The default as one would write it in a spec; `–` where there is none but "not given", and for a model, whose section has them."""
    if name in required:
        return "required"
    match schema.get("default"):
        case None:
            return "–"
        case dict() | list() as empty if not empty:
            return "empty"
        case dict():
            return "its own"
        case float(value):
            return f"`{value:g}`"
        case value:
            return f"`{json.dumps(value)}`" if not isinstance(value, str) else f"`{value}`"


def cell(text: str) -> str:
    """Text as a cell of a table: one line, and no bar that ends it."""
    return " ".join(text.split()).replace("|", r"\|")


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A table in Markdown."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell(text) for text in line) + " |" for line in lines)
