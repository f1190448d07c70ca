"""Event lines on their way from the engine to the database: on disk until recorded, so that an outage costs no memory."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from time import monotonic


@dataclass(frozen=True, slots=True, kw_only=True)
class Spooled:
    """Line `eseq` of this attempt, counted from 1; `text` is empty where the line was too long to keep."""

    eseq: int
    text: bytes


class Spool:
    """A queue of lines in a file, one writer and one reader.

    `append` blocks while `max_bytes` wait to be read: then the engine's pipe fills and the engine waits too. Nothing is lost, and
    neither memory nor disk is used without bound.
    """

    def __init__(self, path: Path, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._changed = threading.Condition()
        self._writing = path.open("wb", buffering=0)
        self._reading = path.open("rb")
        self._size = 0
        self._position = 0
        self._appended = 0
        self._taken = 0
        self._closed = False
        self._urgent = False
        self._appended_at = monotonic()
        self.trouble: OSError | None = None
        """Why no more lines can be kept, such as a full disk."""

    @property
    def backlog(self) -> int:
        """Lines appended and not taken yet."""
        return self._appended - self._taken

    @property
    def silent_s(self) -> float:
        """Seconds without a new line; 0 while lines wait to be taken, for then the writer may be waiting too."""
        return 0.0 if self.backlog else monotonic() - self._appended_at

    def append(self, lines: list[bytes], *, urgent: bool = False) -> None:
        """Add whole lines; `urgent` ones end the reader's lingering. After `close` they are dropped, and from the first `trouble` on."""
        block = b"".join(line + b"\n" for line in lines)
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._size - self._position < self._max_bytes)
            if self._closed:
                return
            try:
                self._write(block)
            except OSError as error:
                # Raised here it would end the thread that reads the engine's pipe, and nobody would hear of it.
                self.trouble, self._closed = error, True
            else:
                self._size += len(block)
                self._appended += len(lines)
                self._appended_at = monotonic()
                self._urgent = self._urgent or urgent
            self._changed.notify_all()

    def _write(self, block: bytes) -> None:
        left = memoryview(block)
        while left:
            left = left[self._writing.write(left) :]

    def end(self) -> None:
        """No more lines will come; those that wait can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def take(self, *, max_lines: int, linger_s: float) -> list[Spooled] | None:
        """Wait for a first line, then up to `linger_s` for more; None at the end of everything."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self.backlog > 0)
            self._changed.wait_for(lambda: self._closed or self._urgent or self.backlog >= max_lines, linger_s)
            self._urgent = False
            count = min(self.backlog, max_lines)
            if count == 0:
                return None
            self._reading.seek(self._position)
            lines = [
                Spooled(eseq=self._taken + offset, text=self._reading.readline().rstrip(b"\n"))
                for offset in range(1, count + 1)
            ]
            self._position = self._reading.tell()
            self._taken += count
            if self._position == self._size:
                self._start_over()
            self._changed.notify_all()
            return lines

    def _start_over(self) -> None:
        self._writing.seek(0)
        self._writing.truncate()
        self._reading.seek(0)
        self._size = self._position = 0

    def close(self) -> None:
        """Give the file up; an engine that still writes is not waited for."""
        self.end()
        with self._changed:
            self._taken = self._appended
            self._writing.close()
            self._reading.close()
