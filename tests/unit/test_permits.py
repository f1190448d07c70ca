"""Permits of long answers: how often, and how many at a time, the database is asked."""

from __future__ import annotations

import asyncio
import threading
import time

from sqlalchemy.exc import OperationalError

from api.events.permits import AT_ONCE, FRESH_S, Permit, Permits


class Register:
    """Who may, and what was asked. Answers in threads, as a database does."""

    def __init__(self, *, takes_s: float = 0.0) -> None:
        self.allowed = True
        self.out = False
        self.takes_s = takes_s
        self.asked = 0
        self.now = 0
        self.most = 0
        self.lock = threading.Lock()

    def ask(self) -> bool:
        with self.lock:
            self.asked += 1
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(self.takes_s)
        with self.lock:
            self.now -= 1
        if self.out:
            raise OperationalError("select", {}, ConnectionError())
        return self.allowed

    def permit(self, who: str) -> Permit:
        return Permit(who=who, ask=self.ask)


async def under_way(register: Register) -> None:
    """Until a question has been put."""
    while register.asked == 0:
        await asyncio.sleep(0)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_five_hundred_followers_with_one_key_ask_once_and_again_when_the_answer_is_old() -> None:
    async def scene() -> tuple[list[bool], int, bool, int]:
        register, clock = Register(), Clock()
        permits = Permits(clock=clock)
        first = await asyncio.gather(*(permits.holds(register.permit("key")) for _ in range(500)))
        asked, register.allowed, clock.now = register.asked, False, FRESH_S
        return first, asked, await permits.holds(register.permit("key")), register.asked

    assert asyncio.run(scene()) == ([True] * 500, 1, False, 2)


def test_a_question_that_takes_long_is_not_asked_again_meanwhile() -> None:
    async def scene() -> tuple[list[bool], int]:
        register, clock = Register(takes_s=0.2), Clock()
        permits = Permits(clock=clock)
        first = asyncio.create_task(permits.holds(register.permit("key")))
        await under_way(register)
        clock.now = 10 * FRESH_S
        other = permits.holds(register.permit("another key"))
        return list(await asyncio.gather(first, other, permits.holds(register.permit("key")))), register.asked

    assert asyncio.run(scene()) == ([True] * 3, 2)


def test_many_keys_are_asked_for_a_few_at_a_time() -> None:
    async def scene() -> Register:
        register = Register(takes_s=0.005)
        permits = Permits()
        await asyncio.gather(*(permits.holds(register.permit(f"key {number}")) for number in range(20)))
        return register

    register = asyncio.run(scene())

    assert (register.asked, register.most) == (20, AT_ONCE)


def test_one_keys_answer_is_not_anothers() -> None:
    async def scene() -> list[bool]:
        permits, refused, allowed = Permits(), Register(), Register()
        refused.allowed = False
        return [await permits.holds(refused.permit("one")), await permits.holds(allowed.permit("other"))]

    assert asyncio.run(scene()) == [False, True]


def test_an_outage_revokes_nobody() -> None:
    async def scene() -> bool:
        register = Register()
        register.out = True
        return await Permits().holds(register.permit("key"))

    assert asyncio.run(scene())


def test_a_follower_that_leaves_does_not_take_the_answer_from_another() -> None:
    async def scene() -> bool:
        register = Register(takes_s=0.1)
        permits = Permits()
        leaves = asyncio.create_task(permits.holds(register.permit("key")))
        stays = asyncio.create_task(permits.holds(register.permit("key")))
        await under_way(register)
        leaves.cancel()
        return await stays

    assert asyncio.run(scene())
