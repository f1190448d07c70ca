"""Kombu's filesystem:// transport with atomic files.

Kombu writes a message, and the table of queues, in place; a reader at that moment gets half a file and its worker dies of it. It also
moves what it takes to the system's temporary folder, which may be another file system, where a move is a copy that two readers can make.
Here every file appears by rename, and who renames a message owns it.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty
from typing import Any
from uuid import uuid4

from kombu.transport import filesystem
from kombu.utils import json


class Channel(filesystem.Channel):
    """A folder of messages, oldest first by their names."""

    def _put(  # type: ignore[override]  # the two classes above name the message differently
        self, queue: str, payload: Any, **_: Any
    ) -> None:
        _write(Path(self.data_folder_out) / f"{time.time_ns():020d}_{uuid4().hex}.{queue}.msg", payload)

    def _get(self, queue: str, timeout: float | None = None) -> Any:  # noqa: ARG002 - the signature is kombu's
        for waiting in self._messages(queue):
            taken = waiting.with_suffix(".taken")
            try:
                waiting.rename(taken)
            except FileNotFoundError:
                continue  # another worker was quicker
            payload = taken.read_bytes()
            taken.unlink()
            return json.loads(payload.decode())
        raise Empty

    def _size(self, queue: str) -> int:
        return len(self._messages(queue))

    def _messages(self, queue: str) -> list[Path]:
        return sorted(Path(self.data_folder_in).glob(f"*.{queue}.msg"))

    def _queue_bind(self, exchange: str, routing_key: str | None, pattern: str | None, queue: str | None) -> None:
        self.control_folder.mkdir(parents=True, exist_ok=True)
        untyped: Any = self
        file: Path = untyped._exchange_file(exchange)
        entry = filesystem.exchange_queue_t(routing_key or "", pattern or "", queue or "")
        with _locked(self.control_folder):
            table = untyped.get_table(exchange)
            if entry not in table:
                _write(file, [entry, *table])


class Transport(filesystem.Transport):
    """Named to Celery as `broker_transport`."""

    Channel = Channel


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write(path: Path, content: Any) -> None:
    temporary = path.with_name(f"{uuid4().hex}.writing")
    temporary.write_bytes(json.dumps(content).encode())
    temporary.replace(path)
