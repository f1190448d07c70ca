"""Everything at once: each part in a thread of its own, so that one that hangs costs its own time-out and no more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from queue import Empty, SimpleQueue
from time import monotonic

from api.core.settings import Settings
from api.doctor import broker, database, disks, engine, hub, machine
from api.doctor.findings import Finding, broken

# PostgreSQL's own time-outs come first, an engine's start is the longest.
WITHIN_S = 150.0

Part = Callable[[], Iterable[Finding]]


def examine(settings: Settings, *, within_s: float = WITHIN_S) -> Iterator[Finding]:
    """Findings, part by part in a fixed order. A part that does not come to an end in time is a failure."""
    parts: dict[str, Part] = {
        "database": lambda: database.examined(settings),
        "broker": lambda: broker.examined(settings),
        "disks": lambda: disks.examined(settings),
        "packages": machine.examined,
        "hub": lambda: hub.examined(settings),
        "engine": lambda: engine.examined(settings),
    }
    until = monotonic() + within_s
    for name, outcome in [(name, _started(part)) for name, part in parts.items()]:
        try:
            found = outcome.get(timeout=max(until - monotonic(), 0.0))
        except Empty:
            yield broken(name, f"no answer within {within_s:.0f} s", "look whether it hangs, or its network")
            continue
        if isinstance(found, Exception):
            # Not its words: what a driver says may hold a password.
            yield broken(name, f"could not be looked at: {type(found).__name__}", "this is a fault of cpd's; report it")
            continue
        yield from found


def _started(part: Part) -> SimpleQueue[list[Finding] | Exception]:
    outcome: SimpleQueue[list[Finding] | Exception] = SimpleQueue()

    def look() -> None:
        try:
            outcome.put(list(part()))
        except Exception as error:
            outcome.put(error)

    # A daemon: what hangs for good must not keep the command from ending.
    threading.Thread(target=look, daemon=True).start()
    return outcome
