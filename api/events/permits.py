"""Whether those who hold long answers may keep them: asked of the database seldom, and few at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import anyio

from api.events.stream import OUTAGES

# An answer stands for all who hold the same key and ask within this time: five hundred followers come due together.
FRESH_S = 1.0
# Questions at once. Requests need the threads and the connections more; a follower can wait.
AT_ONCE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """What `ask`, called in a thread, says of the one named `who`."""

    who: Hashable
    ask: Callable[[], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    at: float
    answer: asyncio.Task[bool]

    def stands(self, now: float) -> bool:
        """Also while it is awaited: a database that takes long is not asked again for that."""
        return now - self.at < FRESH_S or not self.answer.done()


class Permits:
    """The latest answers of this process, by who asked. Lives in the event loop."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._asked: dict[Hashable, _Asked] = {}
        self._limiter = anyio.CapacityLimiter(AT_ONCE)

    async def holds(self, permit: Permit) -> bool:
        """What is said of its holder now, or was to a question of the last FRESH_S. True in an outage, which revokes nobody."""
        now = self._clock()
        known = self._asked.get(permit.who)
        if known is None or not known.stands(now):
            self._asked = {name: one for name, one in self._asked.items() if one.stands(now)}
            known = self._asked[permit.who] = _Asked(at=now, answer=asyncio.create_task(self._ask(permit.ask)))
        # Shielded, for a follower that leaves must not take the answer from the others.
        return await asyncio.shield(known.answer)

    async def _ask(self, ask: Callable[[], bool]) -> bool:
        try:
            return await anyio.to_thread.run_sync(ask, limiter=self._limiter)
        except OUTAGES:
            # The next ping asks again.
            return True
