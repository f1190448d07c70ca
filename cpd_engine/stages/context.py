"""What every stage of a run works with, and how it seals what it has done.

Every process of the run's fleet goes through every stage; only the leader judges, makes and seals what there is but one of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

from typing_extensions import TypeVar

from cpd_engine import checkpoint
from cpd_engine.config import RunConfig
from cpd_engine.errors import CheckpointCorrupt, StopRequested
from cpd_engine.events import Checkpointed, CheckpointRole, Emit, Phase, Progressed, Warned
from cpd_engine.fleet import Fleet
from cpd_engine.inputs import Inputs
from cpd_engine.runtime import Runtime

# What a run is asked to do: a distillation, where nothing else is said.
Config = TypeVar("Config", covariant=True, default=RunConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Generic[Config]):
    """A run as one process has it. `config` is resolved; everything that lasts lies in sealed directories under `out`."""

    config: Config
    inputs: Inputs
    out: Path
    emit: Emit
    should_stop: Callable[[], bool]
    clock: Callable[[], float]
    runtime: Runtime

    @property
    def fleet(self) -> Fleet:
        """The processes that carry out this run."""
        return self.runtime.fleet

    def stands(self, path: str) -> bool:
        """True, in every process, where `out/path` is sealed and sound; all of them ask."""
        return self.fleet.told(self.fleet.leads and self.sound(path))

    @contextmanager
    def once(self, path: str) -> Iterator[bool]:
        """Whether this process is to make `out/path`, which stands when the block is over in all of them."""
        yield self.fleet.leads and not self.sound(path)
        self.fleet.wait()

    def sound(self, path: str) -> bool:
        """Whether `out/path` is sealed and sound; for the leader. An unsound one is warned of and removed, to be made again."""
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
        """Write `out/path` as a sealed directory and announce it; for the leader."""
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

    def asked_to_stop(self) -> bool:
        """Whether any process was asked to; all of them ask, between two pieces of work."""
        return self.fleet.agree(self.should_stop())

    def stop_if_asked(self) -> None:
        """Raise StopRequested in every process alike."""
        if self.asked_to_stop():
            raise StopRequested

    def break_off_if_asked(self) -> None:
        """Raise StopRequested in this process, in the midst of work of its own, around which stands `fleet.apart`."""
        if self.should_stop():
            raise StopRequested

    def progress(self, phase: Phase, label: str) -> Callable[[int, int], None]:
        """A callback (done, total) that reports progress and breaks the work off when this process is asked to stop."""

        def report(done: int, total: int) -> None:
            self.emit(Progressed(phase=phase, label=label, done=done, total=total))
            self.break_off_if_asked()

        return report
