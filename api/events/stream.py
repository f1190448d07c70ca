"""Following a job's events live: one reader of the database per job in this process, however many clients follow it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field

import anyio
import structlog
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from api.events.schemas import EventView

log = structlog.get_logger(__name__)

OUTAGES = (OperationalError, InterfaceError, PoolTimeout)
RECENT = 1000
PAGE = 200
# Followers woken at once, and the pause before the next are. A request needs the loop and the interpreter's lock several times, and where
# five hundred followers took them in one go each of the requests that came meanwhile waited until the last had been told.
AT_ONCE = 10
PAUSE_S = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Events after a cursor. `last_seq` is the job's newest; `over` when the job is finished or gone, so that none will follow it."""

    events: list[EventView]
    last_seq: int
    over: bool


# Reads one page after a cursor; runs in a thread and holds its session for the one read.
Load = Callable[[str, int, int], Awaitable[Page]]


@dataclass(slots=True, kw_only=True)
class Feed:
    """What the reader of one job has seen: every event in (floor, head], of which the oldest fall off."""

    floor: int
    head: int
    recent: deque[EventView] = field(default_factory=deque)
    over: bool = False
    followers: int = 0
    waiting: set[asyncio.Future[None]] = field(default_factory=set)
    reader: asyncio.Task[None] | None = None

    def add(self, page: Page) -> bool:
        """Take in a page that begins right after `head`; True where followers have something to hear."""
        self.recent.extend(page.events)
        while len(self.recent) > RECENT:
            self.floor = self.recent.popleft().seq
        self.head = page.events[-1].seq if page.events else self.head
        self.over = page.over and self.head >= page.last_seq
        return bool(page.events) or self.over

    def wake(self) -> None:
        """Let every follower look again, now."""
        for follower in self.waiting:
            _tell(follower)

    async def wake_in_turns(self) -> None:
        """The same a few at a time, with room for other requests in between."""
        waiting = list(self.waiting)
        for first in range(0, len(waiting), AT_ONCE):
            for follower in waiting[first : first + AT_ONCE]:
                _tell(follower)
            await anyio.sleep(PAUSE_S)

    async def wait(self, timeout_s: float) -> None:
        """Until woken, at most so long."""
        loop = asyncio.get_running_loop()
        # A bare future and a timer: an event in a cancel scope was half of what telling a follower cost.
        told: asyncio.Future[None] = loop.create_future()
        self.waiting.add(told)
        timer = loop.call_later(timeout_s, _tell, told)
        try:
            await told
        finally:
            timer.cancel()
            self.waiting.remove(told)

    def since(self, cursor: int) -> list[EventView] | None:
        """The events after `cursor`; None where some of them have fallen off or came before this feed."""
        return None if cursor < self.floor else [event for event in self.recent if event.seq > cursor]


def _tell(follower: asyncio.Future[None]) -> None:
    if not follower.done():
        follower.set_result(None)


class Feeds:
    """The feeds of this process. Lives in the event loop; `close` ends every stream, for a server that shuts down."""

    def __init__(self, load: Load, *, poll_s: float, ping_s: float) -> None:
        self.load = load
        self.poll_s = poll_s
        self.ping_s = ping_s
        self.feeds: dict[str, Feed] = {}
        self.closing = False

    def close(self) -> None:
        """End every stream now and refuse new ones."""
        self.closing = True
        for feed in self.feeds.values():
            feed.wake()

    async def follow(
        self, job_id: str, *, after: int, last_seq: int, still_allowed: Callable[[], Awaitable[bool]]
    ) -> AsyncGenerator[EventView | None]:
        """Every event after `after`, in order and without a gap, and None where nothing happened for `ping_s`.

        `last_seq` is the job's newest event as the caller knows it. Ends after the last event of a finished job, when the job is
        gone, when the key is (asked every `ping_s`), or on `close`.
        """
        feed, cursor, asked_at = self._join(job_id, min(after, last_seq)), after, time.monotonic()
        try:
            while not self.closing:
                page = await self._next(feed, job_id, cursor)
                for event in page.events:
                    yield event
                    cursor = event.seq
                if page.over and cursor >= page.last_seq:
                    return
                if time.monotonic() - asked_at >= self.ping_s:
                    if not await still_allowed():
                        return
                    asked_at = time.monotonic()
                    yield None
                await self._wait(feed, cursor)
        finally:
            self._leave(job_id, feed)

    async def _next(self, feed: Feed, job_id: str, cursor: int) -> Page:
        known = feed.since(cursor)
        if known is not None:
            return Page(events=known, last_seq=feed.head, over=feed.over)
        try:
            return await self.load(job_id, cursor, PAGE)
        except OUTAGES:
            await anyio.sleep(self.poll_s)
            return Page(events=[], last_seq=cursor, over=False)

    async def _wait(self, feed: Feed, cursor: int) -> None:
        if not (self.closing or feed.over or cursor < feed.head):
            await feed.wait(self.ping_s)

    def _join(self, job_id: str, start: int) -> Feed:
        feed = self.feeds.get(job_id)
        if feed is None:
            feed = self.feeds[job_id] = Feed(floor=start, head=start)
            feed.reader = asyncio.create_task(self._read(job_id, feed), name=f"events of {job_id}")
        feed.followers += 1
        return feed

    def _leave(self, job_id: str, feed: Feed) -> None:
        feed.followers -= 1
        if feed.followers == 0:
            del self.feeds[job_id]
            if feed.reader:
                feed.reader.cancel()

    async def _read(self, job_id: str, feed: Feed) -> None:
        while not feed.over:
            try:
                page = await self.load(job_id, feed.head, PAGE)
            except OUTAGES as outage:
                log.warning("events_unreadable", job_id=job_id, reason=type(outage).__name__)
                await anyio.sleep(self.poll_s)
                continue
            if feed.add(page):
                await feed.wake_in_turns()
            if len(page.events) < PAGE and not feed.over:
                await anyio.sleep(self.poll_s)
