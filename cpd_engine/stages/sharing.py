"""What one job has made and others of this machine find: sealed directories beside the kept states, each made once and waited for."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cpd_engine import checkpoint
from cpd_engine.errors import CheckpointCorrupt, StorageFull
from cpd_engine.events import Phase, Progressed, Recalled, Shareable, Warned
from cpd_engine.stages.context import Run
from cpd_engine.stages.shelving import numerics
from cpd_engine.states.digests import Digests
from cpd_engine.states.folder import Folder, NoRoom
from cpd_engine.states.lock import Lock

# Raised when what is kept is laid out in another way.
FORMAT = 1
# Who makes and scores it, beside what `numerics` names: nobody finds what an older engine left, nor a grade by an older grader.
_MAKERS = ("cpd", "rouge-score", "nltk", "tokenizers")
_PAUSE_S = 0.2
# How often a job that waits says so: an engine that is silent for long is taken to hang.
_TELL_S = 30.0
_PREFIXES: dict[Shareable, str] = {
    "tuned_teacher": "teacher",
    "student_scores": "scores",
    "student_attempts": "attempts",
    "teacher_answers": "answers",
    "untouched_answers": "answers",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A name in the shared folder, held by `lock`: shared where it is sealed, else for this process alone."""

    folder: Folder
    name: str
    lock: Lock
    sealed: bool

    @property
    def path(self) -> Path:
        """Where it lies, or will."""
        return self.folder.path(self.name)


class Shared:
    """`found`: the sound directory that another job left, which stays until the block is over; None: make it, then `leave` it."""

    def __init__(self, run: Run, what: Shareable, place: Place | None, found: str | None) -> None:
        self._run, self._what, self._place = run, what, place
        self.found = Path(found) if found is not None else None

    def leave(self, write: Callable[[Path], None], size_bytes: int) -> None:
        """Let `write` fill the directory for others, of about that size. Where that fails it is warned of, and nothing is left."""
        if self._place is None or self._place.sealed:
            return
        try:
            with (
                self._place.folder.room_for(self._place.name, size_bytes),
                checkpoint.sealing(self._place.path, provenance={"what": self._what}) as draft,
            ):
                write(draft)
        except (NoRoom, OSError, StorageFull) as fault:
            _warn(self._run, self._what, f"not kept for other jobs ({fault})")


@contextmanager
def shared(run: Run, phase: Phase, what: Shareable, parts: Callable[[Digests], Mapping[str, Any]]) -> Iterator[Shared]:
    """What `parts` names, by all that its bits depend on beside device, precision and libraries. Collective; the leader alone holds it.

    While another job of this machine is making it this one waits; if that one ends without, this one makes it.
    """
    place: Place | None = None
    with run.fleet.apart():
        if run.fleet.leads and run.inputs.state_cache is not None and run.config.teacher.cache not in ("off", "memory"):
            place = _claim(run, phase, what, parts)
    try:
        found = run.fleet.told(str(place.path) if place is not None and place.sealed else None)
        if found is not None:
            run.emit(Recalled(what=what))
        yield Shared(run, what, place, found)
    finally:
        if place is not None:
            place.lock.release()


def link_files(source: Path, target: Path) -> None:
    """The files of a sealed directory, which nobody changes, under `target`: no second copy where both are on one file system."""
    for file in checkpoint.read_manifest(source).files:
        into = target / file.path
        into.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source / file.path, into)
        except OSError:
            shutil.copyfile(source / file.path, into)


def size_of(path: Path) -> int:
    """Bytes of a sealed directory's files."""
    return sum(file.size_bytes for file in checkpoint.sealed_files(path))


def _claim(run: Run, phase: Phase, what: Shareable, parts: Callable[[Digests], Mapping[str, Any]]) -> Place | None:
    """The place, sealed or this process's to fill; None where the folder cannot be used, which is warned of. May raise StopRequested."""
    assert run.inputs.state_cache is not None
    try:
        folder = Folder(run.inputs.state_cache, run.inputs.state_cache_bytes)
        name = _name(run, what, parts(Digests(folder.root)))
        told_at = run.clock() - _TELL_S
        while True:
            place = _sealed(run, folder, name, what) or _free(folder, name)
            if place is not None:
                return place
            if run.clock() - told_at >= _TELL_S:
                told_at = run.clock()
                run.emit(Progressed(phase=phase, label=f"{_words(what)}, made by another job", done=0, total=1))
            run.break_off_if_asked()
            time.sleep(_PAUSE_S)
    except OSError as fault:
        _warn(run, what, f"cannot be looked up ({fault})")
        return None


def _name(run: Run, what: Shareable, parts: Mapping[str, Any]) -> str:
    runtime = run.runtime
    machine = {"precision": runtime.precision, "processes": runtime.fleet.world, "numerics": numerics(run)}
    return name_of(what, {**parts, **machine}, makers())


def makers() -> dict[str, str]:
    """The versions of whatever makes and scores shared work. Attempts and test answers are kept with their grades."""
    return {name: version(name) for name in _MAKERS}


def name_of(what: Shareable, parts: Mapping[str, Any], by: Mapping[str, str]) -> str:
    """A name that differs with whatever is made, of what and by whom."""
    told = {"format": FORMAT, "makers": dict(by), "what": what, "parts": dict(parts)}
    return f"{_PREFIXES[what]}-{hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]}"


def _sealed(run: Run, folder: Folder, name: str, what: Shareable) -> Place | None:
    """The place where it is sealed and sound, held against eviction. An unsound one is warned of, and nobody will find it again."""
    lock = folder.lock(name, exclusive=False)
    if lock is None:
        return None
    try:
        if folder.path(name).is_dir():
            checkpoint.verify(folder.path(name))
            folder.touch(name)
            return Place(folder=folder, name=name, lock=lock, sealed=True)
    except CheckpointCorrupt as fault:
        _warn(run, what, f"{fault}; it is made again")
    except BaseException:
        lock.release()
        raise
    lock.release()
    return None


def _free(folder: Folder, name: str) -> Place | None:
    """The place for this process alone, emptied, where nobody else holds it and nothing sound lies there."""
    lock = folder.lock(name, exclusive=True)
    if lock is None:
        return None
    try:
        if folder.path(name).is_dir():
            checkpoint.verify(folder.path(name))
            lock.release()
            return None  # sealed in between: to be held shared
    except CheckpointCorrupt:
        checkpoint.discard(folder.path(name))
    return Place(folder=folder, name=name, lock=lock, sealed=False)


def _words(what: Shareable) -> str:
    return what.replace("_", " ")


def _warn(run: Run, what: Shareable, message: str) -> None:
    run.emit(Warned(code="shared_work", message=f"{_words(what)}: {message}"))
