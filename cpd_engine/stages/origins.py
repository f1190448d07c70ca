"""Part of phase `prepare`: what the models and rows of a run come from, and under which licence, as far as anybody states it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpd_engine import checkpoint
from cpd_engine.config import HubModel, LocalModel
from cpd_engine.events import Warned
from cpd_engine.models.licences import stated_licence
from cpd_engine.models.load import resolve
from cpd_engine.stages.context import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Of a model that was found: the hub's commit, None of a local one, and the licence that its own README.md states."""

    commit: str | None
    licence: str | None


def origins(run: Run) -> dict[str, Origin]:
    """Of the models that are found and not made, by "teacher" and "student"; a moving name is warned of."""
    found: dict[str, Origin] = {}
    for name, ref in (("teacher", run.config.teacher), ("student", run.config.student)):
        if not isinstance(ref, HubModel | LocalModel):
            continue
        resolved = resolve(ref, inputs=run.inputs)
        found[name] = Origin(commit=resolved.commit, licence=stated_licence(resolved.path))
        if resolved.pinned and isinstance(ref, HubModel):
            told = (
                f"{name}: revision {ref.revision!r} of {ref.hub} is a moving name; pinned to commit {resolved.commit}"
            )
            run.emit(Warned(code="revision_pinned", message=told))
    return found


def given(path: Path) -> dict[str, Any]:
    """A file of rows as a lineage names it: by its content."""
    hashed = checkpoint.hash_file(path.parent, path.name)
    return {"name": path.name, "size_bytes": hashed.size_bytes, "sha256": hashed.sha256}
