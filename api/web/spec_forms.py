"""Between a job's spec and the form that people fill in: a few fields for what everyone says, and YAML for the rest. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from api.bodies import parse_json, validate
from api.core.errors import InvalidJson, ValidationFailed
from api.openai.names import called, reference
from cpd_engine.config import RunConfig
from cpd_engine.notation import parse_yaml

ADVANCED = "advanced"
MODELS = ("teacher", "student")
SPLITS = ("train", "validation", "test")
_TEXTS = ("name", "preset")
_WHOLE = ("epochs", "seed")
_NUMBERS = ("tau_1", "tau_n")
NAMES = (*_TEXTS, *MODELS, *SPLITS, *_WHOLE, *_NUMBERS, ADVANCED)


def config_of(fields: Mapping[str, str], roots: Sequence[Path], *, max_depth: int) -> RunConfig:
    """What a filled-in form asks for.

    Raises ValidationFailed, whose `param` is the path in the spec, or `advanced` for text that is no YAML.
    """
    spec = _advanced(fields.get(ADVANCED, ""))
    given = {name: value.strip() for name, value in fields.items() if value.strip()}
    spec |= {name: given[name] for name in _TEXTS if name in given}
    spec |= {name: reference(given[name], roots) for name in MODELS if name in given}
    spec |= {name: _number(given[name], int) for name in _WHOLE if name in given}
    spec |= {name: _number(given[name], float) for name in _NUMBERS if name in given}
    if splits := {split: given[split] for split in SPLITS if split in given}:
        said = spec.get("dataset")
        # Uploaded rows take the place of whatever source the text has.
        kept = (
            {k: v for k, v in said.items() if k not in ("hub", "revision", "synthetic")}
            if isinstance(said, dict)
            else {}
        )
        spec["dataset"] = kept | splits
    return validate(RunConfig, _as_sent(spec, max_depth))


def mapping(text: str, *, max_depth: int) -> dict[str, Any]:
    """A text of YAML or JSON that is a mapping, as if it had been sent as JSON. Raises ValidationFailed at `advanced`."""
    return _as_sent(_advanced(text), max_depth)


def _number(text: str, kind: type[int] | type[float]) -> int | float | str:
    """What is no number is left for the schema to refuse, with its path."""
    try:
        value = kind(text)
    except ValueError:
        return text
    return value if math.isfinite(value) else text


def _advanced(text: str) -> dict[str, Any]:
    try:
        # An alias is written in a few letters and stands for as much as one likes, again and again.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            raise _refused("it refers back to itself with *; write it out")
        found = parse_yaml(text)
    except yaml.YAMLError as error:
        raise _refused(" ".join(str(error).split())[:300]) from None
    except RecursionError:
        raise _refused("it nests too deeply") from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise _refused("it is a mapping of a job's fields, such as `max_length: 512`")
    return {str(name): value for name, value in found.items()}


def _as_sent(spec: Mapping[str, Any], max_depth: int) -> dict[str, Any]:
    """The same through JSON, as the API reads it."""
    try:
        return parse_json(json.dumps(spec, allow_nan=False).encode(), max_depth=max_depth)
    except (TypeError, ValueError, RecursionError):
        raise _refused("it holds a value that JSON has not, such as a date or an infinity") from None
    except InvalidJson as error:
        raise _refused(error.message) from None


def _refused(reason: str) -> ValidationFailed:
    return ValidationFailed(f"More fields: {reason}", param=ADVANCED)


def fields_of(spec: Mapping[str, Any], roots: Sequence[Path]) -> dict[str, str]:
    """The form that asks for `spec`, as a job has kept it."""
    rest = dict(spec)
    fields = dict.fromkeys(NAMES, "")
    for name in (*_TEXTS, *_WHOLE, *_NUMBERS):
        if (value := rest.get(name)) is not None:
            fields[name] = str(value)
            del rest[name]
    for name in MODELS:
        model = rest.get(name)
        if isinstance(model, Mapping) and _reads_back(model, roots):
            fields[name] = called(model)
            del rest[name]
    if isinstance(said := rest.pop("dataset", None), Mapping):
        fields |= {split: str(said[split]) for split in SPLITS if said.get(split)}
        if others := {name: value for name, value in said.items() if name not in SPLITS}:
            rest["dataset"] = others
    fields[ADVANCED] = yaml.safe_dump(rest, sort_keys=False, allow_unicode=True) if rest else ""
    return fields


def _reads_back(model: Mapping[str, Any], roots: Sequence[Path]) -> bool:
    try:
        return reference(called(model), roots) == dict(model)
    except KeyError:
        return False


def field_at(param: str | None) -> str:
    """The field of the form at which a refusal of the spec's `param` is told."""
    pieces = (param or "").split(".")
    match pieces:
        case ["dataset", split, *_] if split in SPLITS:
            return split
        case ["dataset"]:
            return "train"
        case [name, *_] if name in NAMES:
            return name
        case _:
            return ADVANCED
