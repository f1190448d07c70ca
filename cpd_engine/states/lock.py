"""Advisory locks between processes of one machine (flock): held exclusively to fill or evict, shared to use.

They fall with the process that holds them, however it ends.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class Lock:
    """A lock that is held. Made by `acquire` alone."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    def share(self) -> bool:
        """Turn an exclusive lock into a shared one. Between the two another may step in: look again at what it guards.

        False where another did and still holds it; nothing is held then.
        """
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            return False
        return True

    def release(self) -> None:
        """Give it back. Twice is as good as once."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def remove(self) -> None:
        """Delete the lock's file, which must be held exclusively, and give it back."""
        self._path.unlink(missing_ok=True)
        self.release()


def acquire(path: Path, *, exclusive: bool, wait: bool = False) -> Lock | None:
    """The lock, or None where another's is in the way and this one does not `wait`."""
    kind = (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | (0 if wait else fcntl.LOCK_NB)
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, kind)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        if _is_the_file(path, descriptor):
            return Lock(path, descriptor)
        os.close(descriptor)  # deleted by its holder while we waited: the lock is on a file that nobody will open again


def _is_the_file(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
