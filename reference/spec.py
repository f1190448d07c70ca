"""docs/reference/spec.md: every field of a job's and of a comparison's spec, and what the presets fill in, from the models themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from api.comparisons.schemas import ComparisonSpec
from cpd_engine.config import RunConfig
from cpd_engine.presets import PRESETS
from reference.schema import Schema, default_of, table, type_of

PAGE = "docs/reference/spec.md"
_HEAD = """\
# The spec, field by field

What `cpd submit`, `POST /v1/jobs` and `python -m cpd_engine run` take, as YAML or JSON. `make reference` writes this page from
`cpd_engine/config.py` and `api/comparisons/schemas.py`, and a test holds it to them. M1, M2 and so on are the equations of
[docs/method.md](../method.md).

Only `teacher`, `student` and `dataset` are required. A field that is not here is refused, with its path; so are NaN, a text for a number,
and values outside the range. "–" under default means that nothing is set, for which `null` may be written; "None:" tells what then holds.
"preset" means that the [preset](#presets) decides; what is given wins.

## The job
"""
# In which section of docs/method.md an equation stands: the last of each section, and the section's anchor.
_SECTIONS = (
    (4, "1-difficulty-profile-31"),
    (9, "2-curriculum-32"),
    (13, "3-schedules-33"),
    (27, "4-losses-per-token"),
    (32, "6-on-policy-a43-gkd"),
)
_EQUATION = re.compile(r"\bM(\d+)[a-z]?\b")
_BY_PRESET = frozenset(name for preset in PRESETS.values() for name in preset)


def text() -> str:
    """The page."""
    job, comparison = RunConfig.model_json_schema(), ComparisonSpec.model_json_schema()
    parts = [_HEAD, *_sections("RunConfig", job), "## Presets", _presets(), "## Comparisons"]
    parts += _section("ComparisonSpec", comparison)
    parts += _section("MemberSpec", comparison["$defs"]["MemberSpec"])
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _sections(name: str, schema: Schema) -> Iterator[str]:
    """The spec's own section, then one for each model in it, in the order in which they are met."""
    models = {name: schema, **schema["$defs"]}
    waiting, done = [name], []
    while waiting:
        name = waiting.pop(0)
        if name not in done:
            done.append(name)
            waiting += _referred(models[name].get("properties", {}))
            yield from _section(name, models[name])


def _referred(schema: Any) -> Iterator[str]:
    match schema:
        case {"$ref": str(reference)}:
            yield reference.rpartition("/")[2]
        case dict():
            for inner in schema.values():
                yield from _referred(inner)
        case list():
            for inner in schema:
                yield from _referred(inner)


def _section(name: str, schema: Schema) -> Iterator[str]:
    yield f"### {name}"
    yield _linked(schema["description"])
    required = frozenset(schema.get("required", ()))
    rows = [
        (f"`{field}`", type_of(facts), _default(name, field, facts, required), _linked(facts["description"]))
        for field, facts in schema["properties"].items()
    ]
    yield table(("field", "type and range", "default", "meaning"), rows)


def _default(model: str, field: str, facts: Schema, required: frozenset[str]) -> str:
    return "preset" if model == "RunConfig" and field in _BY_PRESET else default_of(field, facts, required)


def _linked(words: str) -> str:
    """The text with its equations as links."""

    def link(found: re.Match[str]) -> str:
        number = int(found[1])
        anchor = next(anchor for last, anchor in _SECTIONS if number <= last)
        return f"[{found[0]}](../method.md#{anchor})"

    return _EQUATION.sub(link, words.replace("docs/method.md", "[docs/method.md](../method.md)"))


def _presets() -> str:
    fields = list(dict.fromkeys(name for preset in PRESETS.values() for name in preset))
    rows = [(f"`{name}`", *(_value(values.get(field)) for field in fields)) for name, values in PRESETS.items()]
    return table(("preset", *(f"`{field}`" for field in fields)), rows)


def _value(value: Any) -> str:
    match value:
        case None:
            return "–"
        case dict():
            return ", ".join(f"{name}: {_value(part)}" for name, part in value.items())
        case tuple():
            return ", ".join(_value(part) for part in value)
        case float():
            return f"{value:g}"
        case _:
            return str(value)
