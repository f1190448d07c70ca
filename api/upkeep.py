"""What must happen without anybody asking for it: a thread of the api's process that does its chores every so often.

Any number of processes may run it at once, for every chore is safe to do twice.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import structlog
from sqlalchemy.exc import SQLAlchemyError

log = structlog.get_logger(__name__)

Chore = Callable[[], int]


class Upkeep:
    """Does each chore, which says how much it did, every `every_s` from `start` to `stop`."""

    def __init__(self, chores: Mapping[str, Chore], *, every_s: float) -> None:
        self._chores, self._every_s = chores, every_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, *, timeout_s: float = 15.0) -> None:
        """End after the chore at hand."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stopping.is_set():
            for name, chore in self._chores.items():
                try:
                    done = chore()
                except (SQLAlchemyError, OSError) as error:
                    log.warning("chore_failed", chore=name, error=type(error).__name__)
                except Exception:
                    # A thread that ended here would leave everything undone from now on, and nobody would hear of it.
                    log.exception("chore_failed", chore=name)
                else:
                    if done:
                        log.info("chore_done", chore=name, count=done)
            self._stopping.wait(self._every_s)
