"""One job that everybody follows, and the api that answers a crowd meanwhile: latencies, its CPU time and its memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from threading import Event, Thread

from sqlalchemy import select

from api.core.db import reading
from api.jobs.tables import Job
from benchmarks.engine.conditions import ROOT
from benchmarks.service.crowd import RAMP_S, Order, Seen
from benchmarks.service.figures import at_share
from benchmarks.service.stack import Stack, tree_cpu_s

SAMPLE_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """What the crowd saw. Seconds. `poll` of polls once everybody was there, `joining` of those before; `lag` from an event's time in the
    database to a follower. Memory of the api in MB (10⁶ bytes): in the first and the last fifth of the time in which the whole crowd
    was there, and at its highest.
    """

    followers: int
    pollers: int
    every_s: float
    seconds: float
    events: int
    breaches: Sequence[str]
    polls: int
    late: int
    poll_p50_s: float
    poll_p99_s: float
    poll_max_s: float
    joining_p99_s: float
    lag_p50_s: float
    lag_p99_s: float
    api_cores: float
    crowd_cores: float
    memory_first_mb: float
    memory_last_mb: float
    memory_peak_mb: float


def follow(
    stack: Stack, *, followers: int, pollers: int, every_s: float, seconds: float, steps_per_s: float
) -> Followed:
    """One job of the no-op engine that tells `steps_per_s`, and a crowd for `seconds`."""
    # Polled are jobs that were there before, as a dashboard's list has them.
    with reading(stack.make) as session:
        polled = list(session.scalars(select(Job.id).order_by(Job.created_at.desc()).limit(100)))
    steps = round(steps_per_s * (seconds + RAMP_S + 2.0))
    followed = stack.submit(steps=str(steps), step_s=str(1.0 / steps_per_s))
    order = Order(
        url=stack.url,
        key=stack.key,
        followed=followed,
        followers=followers,
        polled=polled or [followed],
        pollers=pollers,
        every_s=every_s,
        seconds=seconds + RAMP_S,
    )
    watch = Watch(stack)
    seen, crowd_cpu_s = _crowd(order, watch)
    with reading(stack.make) as session:
        last_seq = session.scalars(select(Job.last_seq).where(Job.id == followed)).one()
    return _told(order, seen, watch, seconds=seconds, last_seq=last_seq, crowd_cpu_s=crowd_cpu_s)


def _told(order: Order, seen: Seen, watch: Watch, *, seconds: float, last_seq: int, crowd_cpu_s: float) -> Followed:
    settled = watch.resident[round(RAMP_S / SAMPLE_S) : round((seconds + RAMP_S) / SAMPLE_S)] or watch.resident
    fifth = max(1, len(settled) // 5)
    return Followed(
        followers=order.followers,
        pollers=order.pollers,
        every_s=order.every_s,
        seconds=seconds,
        events=last_seq,
        breaches=list(breaches(order, seen, last_seq)),
        polls=len(seen.answers),
        late=seen.late,
        poll_p50_s=at_share(seen.answers, 0.5),
        poll_p99_s=at_share(seen.answers, 0.99),
        poll_max_s=max(seen.answers, default=0.0),
        joining_p99_s=at_share(seen.early, 0.99),
        lag_p50_s=at_share(seen.lags, 0.5),
        lag_p99_s=at_share(seen.lags, 0.99),
        api_cores=watch.cpu_s / (len(watch.resident) * SAMPLE_S),
        crowd_cores=crowd_cpu_s / (len(watch.resident) * SAMPLE_S),
        memory_first_mb=fmean(settled[:fifth]) / 1e6,
        memory_last_mb=fmean(settled[-fifth:]) / 1e6,
        memory_peak_mb=max(watch.resident) / 1e6,
    )


def breaches(order: Order, seen: Seen, last_seq: int) -> Iterator[str]:
    """What followers missed or were told twice, and requests that were refused."""
    if seen.refused:
        yield f"{seen.refused} requests were refused"
    if seen.gaps:
        yield f"{seen.gaps} events did not follow on the one before"
    if seen.ends != [last_seq] * order.followers:
        yield f"{sum(end == last_seq for end in seen.ends)} of {order.followers} followers saw event {last_seq}, the last"


class Watch:
    """The api's memory twice a second, and its CPU time, from `start` to `stop`."""

    def __init__(self, stack: Stack) -> None:
        self._api = stack.api
        self._done = Event()
        self._thread = Thread(target=self._run, name="watch")
        self.resident: list[int] = []
        self.cpu_s = 0.0

    def start(self) -> None:
        """Begin."""
        self.cpu_s = -tree_cpu_s(self._api.pid)
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._done.set()
        self._thread.join()
        self.cpu_s += tree_cpu_s(self._api.pid)

    def _run(self) -> None:
        while True:
            self.resident.append(self._api.memory_info().rss)
            if self._done.wait(SAMPLE_S):
                return


def _crowd(order: Order, watch: Watch) -> tuple[Seen, float]:
    """Followers and pollers are processes of their own: a poll's time must not hold the reading of five hundred events by its client."""
    watch.start()
    try:
        with ThreadPoolExecutor(2) as both:
            halves = (replace(order, pollers=0), replace(order, followers=0))
            (followers, followers_cpu_s), (pollers, pollers_cpu_s) = both.map(_half, halves)
    finally:
        watch.stop()
    seen = Seen(
        ends=followers.ends,
        gaps=followers.gaps,
        lags=followers.lags,
        early=pollers.early,
        answers=pollers.answers,
        refused=followers.refused + pollers.refused,
        late=pollers.late,
    )
    return seen, followers_cpu_s + pollers_cpu_s


def _half(order: Order) -> tuple[Seen, float]:
    command = [sys.executable, "-m", "benchmarks.service.crowd"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as crowd:
        said, _ = crowd.communicate(json.dumps(asdict(order)))
    if crowd.returncode:
        raise RuntimeError(f"the crowd ended with {crowd.returncode}")
    told = json.loads(said)
    return Seen(**told["seen"]), told["cpu_s"]
