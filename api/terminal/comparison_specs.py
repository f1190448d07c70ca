"""Comparison specs from files: the base with its local data files found, members and seeds checked before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from api.comparisons.schemas import ComparisonSpec
from api.remote.trouble import BadInput
from api.terminal.specs import Spec, parse, spec_of, validate


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonFile:
    """A comparison's spec as read from `path`, and its base, whose files are still to be uploaded."""

    path: Path
    document: Mapping[str, Any]
    base: Spec

    def with_datasets(self, ids: Mapping[str, str]) -> ComparisonSpec:
        """The spec with uploaded data sets in the place of files. Raises BadInput."""
        given = self.base.with_datasets(ids).model_dump(mode="json", by_alias=True, exclude_unset=True)
        return validate(self.path, ComparisonSpec, {**self.document, "base": given})


def read_comparison(path: Path, overrides: Mapping[str, str]) -> ComparisonFile:
    """Read a comparison; `overrides` and relative paths as for a recipe. Members are merged with the base by the service alone.

    Raises BadInput, which names the file and every field at fault.
    """
    document = parse(path)
    base = document.get("base")
    if not isinstance(base, dict):
        raise BadInput(f"{path}: a comparison has a base, which is a job spec, and members")
    found = ComparisonFile(path=path, document=document, base=spec_of(path, base, overrides, at="base."))
    # Said before files are uploaded: what is wrong with the rest.
    found.with_datasets({})
    return found
