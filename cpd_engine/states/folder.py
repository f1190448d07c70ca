"""Kept states of all jobs of a machine in one directory: a lock per set, a cap on their size, the least recently used goes first."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cpd_engine.states.lock import Lock, acquire

# What is left to others on the disk: checkpoints of this very job may lie beside.
RESERVE_BYTES = 1 << 30


class NoRoom(Exception):
    """The cap or the disk leaves less than is needed, with everything evicted that is not in use."""


class Folder:
    """`<root>/<name>/` is a set, `<root>/<name>.lock` its lock. `free` tells the bytes that the disk has left."""

    def __init__(self, root: Path, limit_bytes: int, *, free: Callable[[Path], int] | None = None) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        self._limit = limit_bytes
        self._free = free or _free_bytes

    def path(self, name: str) -> Path:
        """Where the set lies, or will."""
        return self.root / name

    def lock(self, name: str, *, exclusive: bool) -> Lock | None:
        """The set's lock, or None where another's is in the way."""
        return acquire(self.root / f"{name}.lock", exclusive=exclusive)

    def touch(self, name: str) -> None:
        """The set is used now."""
        os.utime(self.path(name))

    def room_bytes(self) -> int:
        """What a new set may take at most, if all others were evicted."""
        held = sum(_size(path) for path in self._sets())
        return max(min(self._limit, self._free(self.root) - RESERVE_BYTES + held), 0)

    @contextmanager
    def room_for(self, name: str, size_bytes: int) -> Iterator[None]:
        """Evict until `size_bytes` fit beside what stays; the block is to take them from the disk. One process at a time, and in
        directories of its own beside the sets (`.<name>.draft`) only as long as it lasts.

        `name` itself, whose lock the caller holds, is neither counted nor evicted. Raises NoRoom.
        """
        lock = acquire(self.root / "room.lock", exclusive=True, wait=True)
        assert lock is not None
        try:
            self._make_room(name, size_bytes)
            yield
        finally:
            lock.release()

    def _make_room(self, name: str, size_bytes: int) -> None:
        # Drafts are made and put in place inside `room_for`: one that is here now is a killed maker's.
        for draft in self._drafts():
            discard(draft)
        if size_bytes > self._limit:
            raise NoRoom(f"{size_bytes} bytes of kept states are over the cap of {self._limit}")
        taken = _size(self.path(name))
        others = sorted((path for path in self._sets() if path.name != name), key=lambda path: path.stat().st_mtime_ns)
        held = sum(map(_size, others))
        for oldest in [*others, None]:
            free = self._free(self.root) + taken - RESERVE_BYTES
            if held + size_bytes <= self._limit and size_bytes <= free:
                return
            if oldest is not None:
                held -= self._evict(oldest)
        raise NoRoom(
            f"{size_bytes} bytes of kept states do not fit: {held} are in use of the cap of {self._limit}, {free} are free"
        )

    def _evict(self, path: Path) -> int:
        """Bytes that came free: 0 where the set is in use."""
        lock = self.lock(path.name, exclusive=True)
        if lock is None:
            return 0
        size = _size(path)
        discard(path)
        lock.remove()
        return size

    def _drafts(self) -> list[Path]:
        return [path for form in (".*.draft", ".*.replaced") for path in self.root.glob(form) if path.is_dir()]

    def _sets(self) -> list[Path]:
        return [path for path in self.root.iterdir() if path.is_dir() and not path.name.startswith(".")]


def discard(path: Path) -> None:
    """Delete a set whose lock is held exclusively."""
    shutil.rmtree(path, ignore_errors=True)


def _size(path: Path) -> int:
    """Bytes of a set, which another process may be changing."""
    total = 0
    with suppress(FileNotFoundError):
        for file in path.iterdir():
            with suppress(FileNotFoundError):
                total += file.stat().st_size
    return total


def _free_bytes(root: Path) -> int:
    return shutil.disk_usage(root).free
