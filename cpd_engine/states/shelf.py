"""A set of kept states for use: found whole, waited for while another job fills it, or filled."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpd_engine import checkpoint
from cpd_engine.errors import CheckpointCorrupt
from cpd_engine.states import entry
from cpd_engine.states.entry import Filling, Form
from cpd_engine.states.folder import Folder, discard
from cpd_engine.states.lock import Lock

_PAUSE_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """`told` is written beside the states; `head_bytes` come on top of the form's size."""

    name: str
    form: Form
    told: dict[str, Any]
    head_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Who is told what, by callbacks that may raise: packs that another job has filled, bytes checked of all, a fault found."""

    waiting: Callable[[int], None]
    checking: Callable[[int, int], None]
    warn: Callable[[CheckpointCorrupt], None]
    clock: Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A whole set, which stays while its lock is held shared."""

    path: Path
    lock: Lock


def find_or_fill(folder: Folder, wanted: Wanted, *, fill: Callable[[Filling], None], watch: Watch) -> Found:
    """`fill` is called, with the set locked for this process alone, where nobody has filled it; it puts the head and all packs.

    Raises NoRoom, OSError for the disk, CheckpointCorrupt where a damaged set cannot be replaced because it is in use, and whatever
    the callbacks raise; then what has reached the disk stays for whoever goes on.
    """
    while True:
        found = _whole(folder, wanted, watch)
        if found is not None:
            return found
        lock = folder.lock(wanted.name, exclusive=True)
        if lock is None:
            watch.waiting(entry.packs_done(folder.path(wanted.name)))
            time.sleep(_PAUSE_S)
            continue
        try:
            if not entry.is_sealed(folder.path(wanted.name)):
                _fill(folder, wanted, fill, watch)
        except BaseException:
            lock.release()
            raise
        if lock.share() and entry.is_sealed(folder.path(wanted.name)):
            return Found(path=folder.path(wanted.name), lock=lock)
        lock.release()


def _whole(folder: Folder, wanted: Wanted, watch: Watch) -> Found | None:
    """The set where it is whole, checked and locked. A damaged one is unsealed, to be filled anew."""
    path = folder.path(wanted.name)
    lock = folder.lock(wanted.name, exclusive=False)
    if lock is None:
        return None
    try:
        if entry.is_sealed(path):
            entry.verify(path, wanted.form, watch.checking)
            folder.touch(wanted.name)
            return Found(path=path, lock=lock)
    except CheckpointCorrupt as fault:
        watch.warn(fault)
        lock.release()
        _unseal(folder, wanted.name, fault)
        return None
    except BaseException:
        lock.release()
        raise
    lock.release()
    return None


def _unseal(folder: Folder, name: str, fault: CheckpointCorrupt) -> None:
    lock = folder.lock(name, exclusive=True)
    if lock is None:
        raise fault
    entry.unseal(folder.path(name))
    lock.release()


def _fill(folder: Folder, wanted: Wanted, fill: Callable[[Filling], None], watch: Watch) -> None:
    path = folder.path(wanted.name)
    try:
        with folder.room_for(wanted.name, wanted.form.size_bytes + wanted.head_bytes):
            filling = Filling(path, wanted.form, told=wanted.told, clock=watch.clock)
        with closing(filling):
            fill(filling)
            filling.seal()
    except OSError as error:
        if checkpoint.is_disk_full(error):
            discard(path)  # what was reserved is what others lack
        raise
    folder.touch(wanted.name)
