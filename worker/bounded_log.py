"""What an engine prints, kept within bounds."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path


class BoundedLog:
    """A log file of at most `max_bytes` and one of its predecessors (`<name>.1`), and the newest few KB in memory."""

    def __init__(self, path: Path, max_bytes: int, *, tail_bytes: int = 4096) -> None:
        self._path, self._max_bytes, self._tail_bytes = path, max_bytes, tail_bytes
        self._lock = threading.Lock()
        self._file = path.open("wb", buffering=0)
        self._tail = b""

    def write(self, chunk: bytes) -> None:
        """Append; a file that would grow too large becomes the predecessor."""
        with self._lock:
            if self._file.closed:
                return
            self._tail = (self._tail + chunk)[-self._tail_bytes :]
            # A disk without room for an engine's words is no reason to end it, or to hang on its end.
            with suppress(OSError):
                self._keep(chunk)

    def _keep(self, chunk: bytes) -> None:
        if self._file.tell() and self._file.tell() + len(chunk) > self._max_bytes:
            self._file.close()
            self._path.replace(self._path.with_name(self._path.name + ".1"))
            self._file = self._path.open("wb", buffering=0)
        self._file.write(chunk)

    def tail(self) -> str:
        """The newest few KB as text."""
        with self._lock:
            return self._tail.decode(errors="replace").strip()

    def close(self) -> None:
        """No more is written."""
        with self._lock:
            self._file.close()
