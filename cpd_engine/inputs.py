"""Where a run finds what its config only names: files of data sets, folders of models, the hub."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

STATE_CACHE_BYTES = 64 * 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Resolved by whoever starts the run: the command line from its arguments, the worker from its staging folder."""

    # Data set id → file. A name that is not here is a path relative to `base`.
    datasets: Mapping[str, Path] = field(default_factory=dict)
    base: Path = Path()
    # A local model is looked up under these folders, in order, and nowhere else.
    model_roots: tuple[Path, ...] = ()
    hub_cache: Path | None = None
    # None: the hub client's own default.
    hub_endpoint: str | None = None
    # Kept states of teachers, shared by all jobs of the machine, and their size at most. None: each run keeps its own, if any.
    state_cache: Path | None = None
    state_cache_bytes: int = STATE_CACHE_BYTES
    # Whether programs that a model has written may be run, inside the sandbox, to grade them.
    code_execution: bool = False
