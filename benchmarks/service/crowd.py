"""A crowd of clients in one process, lean enough not to be what is measured: followers of one job's event stream, and pollers of jobs.

`python -m benchmarks.service.crowd` reads what to do as JSON from stdin and prints what it saw as JSON.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from time import perf_counter, process_time
from urllib.parse import urlsplit

RAMP_S = 5.0
_EVENT = re.compile(rb'"at":"([^"]+)".*?^id: (\d+)\r?$', re.MULTILINE | re.DOTALL)
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Followers of `followed` stay to its end; each poller asks for one of `polled` every `every_s`, for `seconds`."""

    url: str
    key: str
    followed: str
    followers: int
    polled: Sequence[str]
    pollers: int
    every_s: float
    seconds: float


@dataclass(slots=True, kw_only=True)
class Seen:
    """`ends`: the number of the last event that each follower has seen. `gaps` counts numbers that did not follow on.

    Seconds: `lags` from an event's time in the database to its arrival, `answers` from a poll to the end of its answer, `early` the same
    while followers were still joining.
    """

    ends: list[int] = field(default_factory=list)
    gaps: int = 0
    lags: list[float] = field(default_factory=list)
    early: list[float] = field(default_factory=list)
    answers: list[float] = field(default_factory=list)
    refused: int = 0
    late: int = 0


class Crowd:
    """One run of an order."""

    def __init__(self, order: Order) -> None:
        self.order, self.seen = order, Seen()
        address = urlsplit(order.url)
        self.host, self.port = address.hostname or "", address.port or 80
        self.chance = random.Random(0)

    async def run(self) -> Seen:
        """Everybody, until the last has gone."""
        followers = [self.follow() for _ in range(self.order.followers)]
        pollers = [self.poll(self.order.polled[i % len(self.order.polled)]) for i in range(self.order.pollers)]
        await asyncio.gather(*followers, *pollers)
        return self.seen

    def request(self, path: str, accept: str) -> bytes:
        """The head of a GET."""
        lines = [f"GET {path} HTTP/1.1", f"Host: {self.host}", f"Authorization: Bearer {self.order.key}"]
        return "\r\n".join([*lines, f"Accept: {accept}", "", ""]).encode()

    async def follow(self) -> None:
        """One stream, from the first event to the server's end of it."""
        await asyncio.sleep(self.chance.uniform(0.0, RAMP_S))
        reader, writer = await asyncio.open_connection(self.host, self.port)
        writer.write(self.request(f"/v1/jobs/{self.order.followed}/events", "text/event-stream"))
        joined = datetime.now(UTC)
        last, head = 0, await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head.split(b"\r\n", 1)[0]:
            self.seen.refused += 1
            return
        while size := int(await reader.readuntil(b"\r\n"), 16):
            chunk = (await reader.readexactly(size + 2))[:-2]
            now = datetime.now(UTC)
            for at, number in _EVENT.findall(chunk):
                self.seen.gaps += int(number) != last + 1
                last = int(number)
                if (moment := datetime.fromisoformat(at.decode())) > joined:
                    self.seen.lags.append((now - moment).total_seconds())
        self.seen.ends.append(last)
        writer.close()

    async def poll(self, job_id: str) -> None:
        """One connection, a question every so often; one that comes late because the last took long is counted."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        due = began + self.chance.uniform(0.0, self.order.every_s)
        reader, writer = await asyncio.open_connection(self.host, self.port)
        asked = self.request(f"/v1/jobs/{job_id}", "application/json")
        while due < began + self.order.seconds:
            await asyncio.sleep(max(0.0, due - loop.time()))
            started = perf_counter()
            writer.write(asked)
            head = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            await reader.readexactly(int(length[1]) if length else 0)
            took = perf_counter() - started
            # Counted apart until everybody is there: joining is dearer than staying.
            (self.seen.answers if due >= began + RAMP_S else self.seen.early).append(took)
            self.seen.refused += b" 200 " not in head.split(b"\r\n", 1)[0]
            due += self.order.every_s
            self.seen.late += loop.time() > due
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def main() -> None:
    """stdin to stdout."""
    order = Order(**json.load(sys.stdin))
    seen = asyncio.run(Crowd(order).run())
    json.dump({"seen": asdict(seen), "cpu_s": process_time()}, sys.stdout)


if __name__ == "__main__":
    main()
