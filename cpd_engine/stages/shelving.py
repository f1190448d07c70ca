"""Where a run's kept states lie on the disk, under which name, and who is told while they are looked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from cpd_engine import repro
from cpd_engine.events import Phase, Warned
from cpd_engine.models.decoder import vocabulary_size
from cpd_engine.stages.context import Run
from cpd_engine.stages.prepare import Prepared
from cpd_engine.states import entry
from cpd_engine.states.choice import Room
from cpd_engine.states.digests import Digests
from cpd_engine.states.folder import Folder
from cpd_engine.states.key import Key, data_digest, model_digest
from cpd_engine.states.records import Records
from cpd_engine.states.room import memory_bytes
from cpd_engine.states.shelf import Watch
from cpd_engine.states.topk import TopKRecords

LABEL = "states of the teacher"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """The folder of kept states, and this run's among them."""

    folder: Folder
    key: Key

    @property
    def cached(self) -> bool:
        """Whether they are whole already."""
        return entry.is_sealed(self.folder.path(self.key.name))


def private_folder(run: Run) -> Path:
    """The run's own folder of states, for the disk where none is shared; gone when the student is trained."""
    return run.out / "states"


def shelf_of(run: Run, prepared: Prepared, teacher: Path, records: Records) -> Shelf | None:
    """None where no disk was asked for, or where its folder cannot be used, which is warned of."""
    asked, shared = run.config.teacher.cache, run.inputs.state_cache
    if asked not in ("auto", "disk") or (asked == "auto" and shared is None):
        return None
    try:
        folder = Folder(shared or private_folder(run), run.inputs.state_cache_bytes)
        return Shelf(folder=folder, key=_key(run, prepared, teacher, records, Digests(folder.root)))
    except OSError as fault:
        warn(run, f"their folder cannot be used ({fault})")
        return None


def _key(run: Run, prepared: Prepared, teacher: Path, records: Records, files: Digests) -> Key:
    top = records if isinstance(records, TopKRecords) else None
    return Key(
        teacher=model_digest(teacher, files),
        data=data_digest(prepared.samples),
        template=run.config.template,
        max_length=run.config.max_length,
        vocabulary=vocabulary_size(prepared.tokenizer),
        dtype=str(run.runtime.frozen_dtype),
        top_k=top.k if top else None,
        temperatures=top.temperatures if top else (),
        numerics=numerics(run),
    )


def numerics(run: Run) -> tuple[str, ...]:
    """What the last bits of a product depend on: device, threads, libraries."""
    device, versions = run.runtime.device, repro.versions()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return name, f"{run.runtime.threads} threads", versions["torch"], versions["transformers"]


def watch_of(run: Run, phase: Phase, packs: int) -> Watch:
    """Progress of another job's fill of `packs` packs and of the check of what was found, each of which obeys a stop."""
    waiting = run.progress(phase, f"{LABEL}, filled by another job")
    told = -1

    def wait(done: int) -> None:
        nonlocal told
        if done != told:
            waiting(done, packs)
        told = done
        run.break_off_if_asked()

    return Watch(
        waiting=wait,
        checking=run.progress(phase, f"{LABEL}, checked"),
        warn=lambda fault: warn(run, f"{fault}; filled anew"),
        clock=run.clock,
    )


def room_for(run: Run, shelf: Shelf | None) -> Room:
    """What states may take, on the disk, which this machine's processes share, and in the memory of each of them."""
    disk_bytes = shelf.folder.room_bytes() if shelf else None
    return Room(disk_bytes=disk_bytes, memory_bytes=memory_bytes() // run.fleet.local_world)


def warn(run: Run, message: str) -> None:
    """Say that kept states are not as they were wanted."""
    run.emit(Warned(code="teacher_states", message=f"{LABEL}: {message}"))
