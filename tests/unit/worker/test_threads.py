"""Lease, patience and slot: the rules that decide who may write and who works."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy.exc import OperationalError

from api.jobs.lease import Hold, LeaseLost
from api.jobs.states import JobKind, Requested
from api.jobs.transitions import Claim
from tests.deadline import eventually
from worker.lease import Lease, LeaseTimes
from worker.reaper import Patience
from worker.tasks import Slot

GONE = OperationalError("select 1", {}, Exception("the server is away"))


@dataclass
class Clock:
    """Time that a test moves."""

    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Answers:
    """What the database says: a request, or an error."""

    say: Requested | Exception = Requested.NONE
    asked: int = 0

    def __call__(self) -> Requested:
        self.asked += 1
        if isinstance(self.say, Exception):
            raise self.say
        return self.say


@dataclass
class Told:
    """What a lease called."""

    changed: threading.Event = field(default_factory=threading.Event)


def lease(beat: Answers, look: Answers, clock: Clock, told: Told, *, outage_s: float = 100.0) -> Lease:
    times = LeaseTimes(heartbeat_s=10.0, poll_s=0.001, outage_s=lambda: outage_s)
    return Lease(
        beat=beat, look=look, times=times, on_change=told.changed.set, clock=clock
    )  # fmt: skip


def more(answers: Answers, count: int = 2) -> Callable[[], bool]:
    already = answers.asked
    return lambda: answers.asked >= already + count


def test_it_beats_when_due_and_looks_in_between() -> None:
    beat, look, clock, told = Answers(), Answers(), Clock(), Told()
    with lease(beat, look, clock, told):
        eventually(more(look), within_s=10, what="two looks")
        assert beat.asked == 0
        clock.now_s = 10.0
        eventually(lambda: beat.asked == 1, within_s=10, what="a beat")
        eventually(more(look), within_s=10, what="two looks")
        assert beat.asked == 1


def test_a_request_is_passed_on_once() -> None:
    beat, look, told = Answers(), Answers(), Told()
    with lease(beat, look, Clock(), told) as held:
        look.say = Requested.PAUSE
        assert told.changed.wait(10)
        assert held.requested is Requested.PAUSE
        told.changed.clear()
        eventually(more(look), within_s=10, what="two looks")
        assert not told.changed.is_set()


def test_a_lost_lease_is_told_at_once_and_asked_for_no_more() -> None:
    look, told = Answers(say=LeaseLost("job")), Told()
    with lease(Answers(), look, Clock(), told) as held:
        assert held.wait_lost(10)
        assert told.changed.wait(10)
    assert look.asked == 1


def test_a_job_that_ended_was_not_lost() -> None:
    look, told = Answers(), Told()
    with lease(Answers(), look, Clock(), told) as held:
        held.settle()
        look.say = LeaseLost("job")
        eventually(more(look), within_s=10, what="two looks")
        assert not held.lost
        assert not told.changed.is_set()


def test_a_database_that_is_away_loses_nothing_until_the_outage_is_too_long() -> None:
    look, clock, told = Answers(say=GONE), Clock(), Told()
    with lease(Answers(say=GONE), look, clock, told) as held:
        eventually(more(look), within_s=10, what="two looks")
        assert not held.lost
        clock.now_s = 101.0
        assert held.wait_lost(10)


def test_a_beat_that_failed_is_made_up_for_at_once() -> None:
    beat, look, clock = Answers(say=GONE), Answers(), Clock()
    with lease(beat, look, clock, Told()):
        clock.now_s = 10.0
        eventually(more(beat), within_s=10, what="two beats")
        looked = look.asked
        beat.say = Requested.NONE
        eventually(more(look), within_s=10, what="two looks")
        assert look.asked > looked
        assert beat.asked >= 3


def test_a_worker_that_has_just_started_judges_nobody_yet() -> None:
    # The database may have been away until this moment, and every lease have run out with it.
    clock = Clock()
    patience = Patience(silence_s=30.0, hold_s=90.0, clock=clock)
    for clock.now_s in (0.0, 10.0, 29.9):
        assert not patience.answered()
    clock.now_s = 30.0
    assert patience.answered()


def test_nothing_is_reaped_for_a_while_after_the_database_was_silent() -> None:
    clock = Clock()
    patience = Patience(silence_s=30.0, hold_s=90.0, clock=clock)
    clock.now_s = 30.0
    assert patience.answered()
    clock.now_s = 61.0
    assert not patience.answered()
    for clock.now_s in (80.0, 100.0, 125.0, 150.9):
        assert not patience.answered()
    clock.now_s = 151.0
    assert patience.answered()


def claimed(job_id: str) -> Claim:
    return Claim(
        hold=Hold(job_id=job_id, fence=1), tenant_id="ten", attempt=1, crashes=0, losses=0, kind=JobKind.DISTILLATION, resolved={}
    )  # fmt: skip


@dataclass
class Queue:
    """Jobs that wait."""

    waiting: list[str]

    def claim(self, job_id: str | None) -> Claim | None:
        found = [name for name in self.waiting if job_id in (None, name)]
        if not found:
            return None
        self.waiting.remove(found[0])
        return claimed(found[0])


def test_a_ring_runs_its_job_first_and_then_what_else_waits() -> None:
    ran: list[str] = []
    queue = Queue(["a", "b", "c"])
    slot = Slot(claim=queue.claim, run=lambda claim: ran.append(claim.hold.job_id), draining=threading.Event())
    slot.work("b")
    assert ran == ["b", "a", "c"]


def test_a_draining_worker_takes_nothing_new() -> None:
    draining, ran = threading.Event(), list[str]()
    queue = Queue(["a", "b"])

    def run(claim: Claim) -> None:
        ran.append(claim.hold.job_id)
        draining.set()

    Slot(claim=queue.claim, run=run, draining=draining).work()
    assert (ran, queue.waiting) == (["a"], ["b"])


def test_an_attempt_that_breaks_and_a_database_that_is_away_end_no_worker() -> None:
    def run(claim: Claim) -> None:
        raise RuntimeError(claim.hold.job_id)

    def away(job_id: str | None) -> Claim | None:
        raise GONE

    queue = Queue(["a", "b"])
    slot = Slot(claim=queue.claim, run=run, draining=threading.Event())
    slot.work()
    assert (queue.waiting, slot.job_id) == ([], None)
    Slot(claim=away, run=run, draining=threading.Event()).work()


def test_a_ring_during_a_job_returns_at_once_and_is_not_forgotten() -> None:
    queue, ran = Queue(["a"]), list[str]()

    def run(claim: Claim) -> None:
        ran.append(claim.hold.job_id)
        if claim.hold.job_id == "a":
            other = threading.Thread(target=slot.work, args=("b",))
            other.start()
            other.join(10)
            assert not other.is_alive()
            queue.waiting.append("b")

    slot = Slot(claim=queue.claim, run=run, draining=threading.Event())
    slot.work()
    assert ran == ["a", "b"]
