"""What every stage of a run works with, and how it seals what it has done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpd_engine import checkpoint
from cpd_engine.config import RunConfig
from cpd_engine.errors import CheckpointCorrupt, StopRequested
from cpd_engine.events import Checkpointed, CheckpointRole, Emit, Phase, Progressed, Warned
from cpd_engine.inputs import Inputs
from cpd_engine.runtime import Runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run in one process. `config` is resolved; everything that lasts lies in sealed directories under `out`."""

    config: RunConfig
    inputs: Inputs
    out: Path
    emit: Emit
    should_stop: Callable[[], bool]
    clock: Callable[[], float]
    runtime: Runtime

    def stands(self, path: str) -> bool:
        """True where `out/path` is sealed and sound. An unsound one is warned of and removed, to be made again."""
        unit = self.out / path
        if not unit.exists():
            return False
        try:
            checkpoint.verify(unit)
        except CheckpointCorrupt as fault:
            self.emit(Warned(code=fault.code, message=f"{fault}; it is made again"))
            checkpoint.discard(unit)
            return False
        return True

    @contextmanager
    def sealing(
        self,
        path: str,
        name: str,
        *,
        role: CheckpointRole = "phase",
        metrics: Mapping[str, float] | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> Iterator[Path]:
        """Write `out/path` as a sealed directory and announce it."""
        with checkpoint.sealing(self.out / path, provenance=provenance) as draft:
            yield draft
        self.emit(
            Checkpointed(
                name=name,
                role=role,
                path=path,
                files=checkpoint.sealed_files(self.out / path),
                retained=(name,),
                metrics=dict(metrics or {}),
            )
        )

    def stop_if_asked(self) -> None:
        """Raise StopRequested between two pieces of work."""
        if self.should_stop():
            raise StopRequested

    def progress(self, phase: Phase, label: str) -> Callable[[int, int], None]:
        """A callback (done, total) that reports progress and raises StopRequested when asked to stop."""

        def report(done: int, total: int) -> None:
            self.emit(Progressed(phase=phase, label=label, done=done, total=total))
            self.stop_if_asked()

        return report
