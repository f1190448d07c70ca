"""Reading a recipe: YAML or JSON in, a resolved RunConfig out, or an error that names the field."""

from __future__ import annotations

import json
from pathlib import Path

import yaml
from pydantic import ValidationError

from cpd_engine.config import RunConfig
from cpd_engine.errors import ConfigInvalid


def read_spec(path: Path) -> RunConfig:
    """The run that a recipe describes, as the REST API would read it. Raises ConfigInvalid with the path of every bad field."""
    try:
        text = path.read_text("utf-8")
        given = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
        return RunConfig.model_validate_json(json.dumps(given)).resolved()
    except ValidationError as error:
        faults = [
            f"{_field(fault['loc'])}: {fault['msg']}" for fault in error.errors(include_url=False, include_input=False)
        ]
        raise ConfigInvalid(f"{path.name}: " + "; ".join(faults)) from error
    except OSError as error:
        raise ConfigInvalid(f"{path}: {error.strerror}") from error
    except (ValueError, TypeError, yaml.YAMLError, RecursionError) as error:
        raise ConfigInvalid(f"{path.name}: not YAML or JSON with plain values ({error})") from error


def _field(location: tuple[int | str, ...]) -> str:
    return ".".join(map(str, location)) or "the recipe"
