"""Job specs from files: read, checked before anything is sent, and with their local data files found."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from api.remote.trouble import BadInput
from cpd_engine.config import RunConfig
from cpd_engine.notation import parse_yaml

M = TypeVar("M", bound=BaseModel)
SPLITS = ("train", "validation", "test")
_DATASET_PREFIX = "ds_"
# 1 MiB is what the service takes as a body.
_LONGEST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """A checked job spec and the local files of rows that it names, by split or as `suites.0.data`; these are still to be uploaded."""

    config: RunConfig
    files: Mapping[str, Path]

    def with_datasets(self, ids: Mapping[str, str]) -> RunConfig:
        """The config with uploaded data sets in the place of files."""
        given = self.config.model_dump(mode="json", by_alias=True, exclude_unset=True)
        for place, dataset_id in ids.items():
            if place in SPLITS:
                given["dataset"][place] = dataset_id
            else:
                _, number, field = place.split(".")
                given["evaluation"]["suites"][int(number)][field] = dataset_id
        return RunConfig.model_validate_json(json.dumps(given))


def read_spec(path: Path, overrides: Mapping[str, str]) -> Spec:
    """Read a recipe. `overrides` put other data sets (ids or files) in the place of its splits.

    Paths in the recipe are relative to the recipe, those in `overrides` to the working directory.
    Raises BadInput, which names the file and every field at fault.
    """
    return spec_of(path, parse(path), overrides)


def spec_of(path: Path, document: Mapping[str, Any], overrides: Mapping[str, str], *, at: str = "") -> Spec:
    """The same of a document that is read; `at` is its own place in the file at `path`, with a dot behind it."""
    dataset = document.get("dataset")
    named: dict[str, Any] = dict(dataset) if isinstance(dataset, dict) else {}
    files = {
        split: path.parent / value
        for split, value in named.items()
        if split in SPLITS
        and isinstance(value, str)
        and split not in overrides
        and not value.startswith(_DATASET_PREFIX)
    }
    if overrides:
        # An uploaded data set takes the place of whatever source the recipe has.
        kept = {key: value for key, value in named.items() if key not in {"hub", "revision", "synthetic"}}
        document = {**document, "dataset": {**kept, **overrides}}
        files |= {split: Path(value) for split, value in overrides.items() if not value.startswith(_DATASET_PREFIX)}
    config = validate(path, RunConfig, document, at=at)
    files |= {
        f"suites.{number}.{field}": path.parent / name
        for number, suite in enumerate(config.evaluation.suites)
        for field, name in suite.files.items()
        if not name.startswith(_DATASET_PREFIX)
    }
    for place, file in files.items():
        if not file.is_file():
            field = f"dataset.{place}" if place in SPLITS else f"evaluation.{place}"
            raise BadInput(f"{path}: {at}{field}: there is no file {file}; name a file or an uploaded data set (ds_…)")
    return Spec(config=config, files=files)


def parse_overrides(pairs: Iterable[str]) -> dict[str, str]:
    """`train=ds_…` or `test=rows.jsonl`, as given on the command line."""
    overrides: dict[str, str] = {}
    for pair in pairs:
        split, equals, value = pair.partition("=")
        if split not in SPLITS or not equals or not value:
            raise BadInput(f"--dataset {pair}: write SPLIT=ID or SPLIT=FILE, where SPLIT is train, validation or test")
        overrides[split] = value
    return overrides


def parse(path: Path) -> dict[str, Any]:
    """The mapping that a YAML or JSON file holds. Raises BadInput."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        remedy = "name a spec as YAML or JSON; docs/reference/spec.md has its fields"
        raise BadInput(f"cannot read {path} ({error.strerror}): {remedy}") from error
    if len(raw) > _LONGEST_BYTES:
        raise BadInput(
            f"{path} is larger than 1 MiB: this is no spec; rows go into a file of their own, which it names"
        )
    try:
        document = json.loads(raw) if path.suffix == ".json" else parse_yaml(raw)
    except (ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        kind = "JSON" if path.suffix == ".json" else "YAML"
        raise BadInput(f"{path} is no {kind}; mend it there: {reason}") from error
    if not isinstance(document, dict):
        raise BadInput(f"{path}: a spec is a mapping, of a job with teacher, student and dataset")
    return document


def validate(path: Path, model: type[M], document: Mapping[str, Any], *, at: str = "") -> M:
    """`document` as `model`. Raises BadInput with every field at fault."""
    try:
        # Through JSON, as the service reads it: a YAML date or a number for a name is caught here as there.
        return model.model_validate_json(json.dumps(document))
    except ValidationError as error:
        faults = (
            f"{at}{'.'.join(str(part) for part in fault['loc']) or 'spec'}: {fault['msg']}" for fault in error.errors()
        )
        raise BadInput(f"{path}: " + "; ".join(faults)) from error
    except (TypeError, ValueError) as error:
        raise BadInput(f"{path}: {error}") from error
