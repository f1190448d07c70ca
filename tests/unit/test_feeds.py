"""Following a job's events: the logic without a database."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime
from itertools import groupby

from api.events.schemas import EventView
from api.events.stream import AT_ONCE, Feed, Feeds, Page

AT = datetime(2026, 1, 1, tzinfo=UTC)


class Ledger:
    """A job whose events can be read only when the test hands out a permit for the reading."""

    def __init__(self) -> None:
        self.last_seq = 0
        self.over = False
        self.loads = 0
        self.permits = asyncio.Semaphore(0)

    async def load(self, _job_id: str, after: int, limit: int) -> Page:
        self.loads += 1
        await self.permits.acquire()
        numbers = range(after + 1, min(after + limit, self.last_seq) + 1)
        events = [EventView(seq=n, kind="warned", at=AT, attempt=1, data={}) for n in numbers]
        return Page(events=events, last_seq=self.last_seq, over=self.over)


async def always() -> bool:
    return True


async def followed(feeds: Feeds, after: int = 0) -> list[int]:
    async with aclosing(feeds.follow("job", after=after, last_seq=0, still_allowed=always)) as events:
        return [event.seq async for event in events if event is not None]


def test_eight_followers_cost_one_reading_for_each_news() -> None:
    async def scene() -> tuple[list[list[int]], int]:
        ledger = Ledger()
        feeds = Feeds(ledger.load, poll_s=0.0, ping_s=60.0)
        tasks = [asyncio.create_task(followed(feeds)) for _ in range(8)]
        for number in (1, 2, 3):
            ledger.last_seq = number
            ledger.over = number == 3
            ledger.permits.release()
            while ledger.loads <= number and not ledger.over:
                await asyncio.sleep(0)
        return await asyncio.gather(*tasks), ledger.loads

    seen, loads = asyncio.run(scene())

    assert seen == [[1, 2, 3]] * 8
    assert loads == 3


def test_others_get_their_turn_while_many_followers_are_woken() -> None:
    async def scene() -> list[str]:
        feed, turns = Feed(floor=0, head=0), []

        async def follower() -> None:
            await feed.wait(60.0)
            turns.append("follower")

        async def other() -> None:
            while turns.count("follower") < 3 * AT_ONCE:
                turns.append("other")
                await asyncio.sleep(0)

        followers = [asyncio.create_task(follower()) for _ in range(3 * AT_ONCE)]
        while len(feed.waiting) < len(followers):
            await asyncio.sleep(0)
        asking = asyncio.create_task(other())
        await feed.wake_in_turns()
        await asyncio.gather(asking, *followers)
        assert not feed.waiting
        return turns

    together = max(len(list(group)) for who, group in groupby(asyncio.run(scene())) if who == "follower")

    assert together <= AT_ONCE


def test_closing_ends_a_stream_that_waits() -> None:
    async def scene() -> list[int]:
        ledger = Ledger()
        feeds = Feeds(ledger.load, poll_s=0.0, ping_s=3600.0)
        task = asyncio.create_task(followed(feeds))
        while not ledger.loads:
            await asyncio.sleep(0)
        feeds.close()
        return await asyncio.wait_for(task, 10)

    assert asyncio.run(scene()) == []


def test_a_follower_that_is_cancelled_leaves_its_feed() -> None:
    async def scene() -> dict[str, object]:
        ledger = Ledger()
        feeds = Feeds(ledger.load, poll_s=0.0, ping_s=3600.0)
        task = asyncio.create_task(followed(feeds))
        while not ledger.loads:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return dict(feeds.feeds)

    assert asyncio.run(scene()) == {}
