"""Reading a recipe: YAML or JSON in, a resolved RunConfig out, or an error that names the field."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from cpd_engine.config import ExaminationConfig, RunConfig
from cpd_engine.errors import ConfigInvalid
from cpd_engine.notation import parse_yaml

# Where the next field of a suite begins; a path may hold colons of its own.
_FIELD_START = re.compile(r":(?=[a-z_]+=)")
_WHOLE = ("rows", "shots", "max_new_tokens")


def read_spec(path: Path) -> RunConfig:
    """The run that a recipe describes, as the REST API would read it. Raises ConfigInvalid with the path of every bad field."""
    try:
        text = path.read_text("utf-8")
        given = json.loads(text) if path.suffix == ".json" else parse_yaml(text)
        return RunConfig.model_validate_json(json.dumps(given)).resolved()
    except ValidationError as error:
        raise ConfigInvalid(f"{path.name}: {_faults(error)}") from error
    except OSError as error:
        raise ConfigInvalid(f"{path}: {error.strerror}; name a recipe, .yaml or .json") from error
    except (ValueError, TypeError, yaml.YAMLError, RecursionError) as error:
        raise ConfigInvalid(f"{path.name}: not YAML or JSON with plain values ({error})") from error


def read_examination(suites: Sequence[str], **settings: Any) -> ExaminationConfig:
    """An examination on suites written as `task=gsm8k:data=test.jsonl:shots=4`. Raises ConfigInvalid with every bad field."""
    try:
        return ExaminationConfig.model_validate({"suites": [_suite(text) for text in suites], **settings})
    except ValidationError as error:
        raise ConfigInvalid(_faults(error)) from error


def _suite(text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in _FIELD_START.split(text):
        name, equals, value = part.partition("=")
        if not equals or not value:
            raise ConfigInvalid(f"--suite {text!r}: {part!r} is not FIELD=VALUE; write task=NAME:data=FILE")
        found[name] = _value(name, value)
    return found


def _value(name: str, text: str) -> Any:
    """As JSON has it; what is no number stays text, for the config to refuse."""
    try:
        if name == "seeds":
            return [int(seed) for seed in text.split(",")]
        return int(text) if name in _WHOLE else text
    except ValueError:
        return text


def _faults(error: ValidationError) -> str:
    return "; ".join(
        f"{_field(fault['loc'])}: {fault['msg']}" for fault in error.errors(include_url=False, include_input=False)
    )


def _field(location: tuple[int | str, ...]) -> str:
    return ".".join(map(str, location)) or "the recipe"
