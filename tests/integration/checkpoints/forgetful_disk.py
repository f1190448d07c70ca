"""A disk that keeps what it was told to keep and nothing else, to see what a power loss would leave.

Every fsync under its root is noted with what it makes durable: the bytes of a file, the names in a folder. `after_power_loss`
then builds the tree that such a disk would show at the next start. Two kinds of file system are imitated: one that also writes
names only when told, and one that writes names at once and contents when told, as ext4 and XFS may.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

Names = Literal["when told", "at once"]


class PowerLoss(BaseException):
    """The machine is off: nothing in the program may answer to it."""


@dataclass
class ForgetfulDisk:
    """What lies under `root` now is on the disk; of what comes later, what fsync was called for."""

    root: Path
    syncs: int = 0
    lost_at: int | None = None
    _files: dict[int, bytes] = field(default_factory=dict)
    _folders: dict[int, dict[str, int]] = field(default_factory=dict)
    # Holds every inode that was seen, so that none is given to another file.
    _open: ExitStack = field(default_factory=ExitStack)

    def sync(self, descriptor: int) -> None:
        """An fsync; the one numbered `lost_at` (from 1) never comes."""
        self.syncs += 1
        if self.syncs == self.lost_at:
            raise PowerLoss
        self._keep(f"/proc/self/fd/{descriptor}")

    def remember_all(self) -> None:
        """What is there now is on the disk."""
        for path in (self.root, *self.root.rglob("*")):
            self._keep(str(path))

    def after_power_loss(self, target: Path, *, names: Names) -> Path:
        """The tree as it would be found, made at `target`."""
        self._restore(self.root.stat().st_ino, self.root if names == "at once" else None, target)
        return target

    def close(self) -> None:
        """Let the inodes go."""
        self._open.close()

    def _keep(self, path: str) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        self._open.callback(os.close, descriptor)
        at = os.fstat(descriptor)
        if stat.S_ISDIR(at.st_mode):
            with os.scandir(descriptor) as entries:
                self._folders[at.st_ino] = {entry.name: entry.inode() for entry in entries}
        else:
            self._files[at.st_ino] = os.pread(descriptor, at.st_size, 0)

    def _restore(self, inode: int, now: Path | None, target: Path) -> None:
        is_folder = now.is_dir() if now is not None else inode in self._folders
        if not is_folder:
            # A name that was written before its contents shows an empty file.
            target.write_bytes(self._files.get(inode, b""))
            return
        target.mkdir()
        if now is not None:
            for path in now.iterdir():
                self._restore(path.stat().st_ino, path, target / path.name)
            return
        for name, child in self._folders[inode].items():
            self._restore(child, None, target / name)


@contextmanager
def forgetful(root: Path, *, lost_at: int | None = None) -> Iterator[ForgetfulDisk]:
    """A disk under `root` that listens to this process's fsyncs until the block ends."""
    disk = ForgetfulDisk(root=root, lost_at=lost_at)
    disk.remember_all()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", disk.sync)
        try:
            yield disk
        finally:
            disk.close()
