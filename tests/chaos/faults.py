"""What is done to a world, each fault with what undoes it. Which, when and to whom is drawn from one seeded generator."""

from __future__ import annotations

import random
import signal
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import psutil
from kombu.exceptions import OperationalError as BrokerAway
from sqlalchemy.exc import SQLAlchemyError

from api.core.errors import ServiceError
from api.core.queue import celery_app, ring
from api.jobs import transitions
from tests.chaos.world import World, pick
from tests.integration.worker.fleet import TIMES

LEASE_S = float(TIMES["lease_s"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Blow:
    """What was done: to what, on which worker, if on one, and how it is undone `for_s` later."""

    target: str = ""
    worker: int | None = None
    for_s: float = 0.0
    undo: Callable[[], None] | None = None


Fault = Callable[[World, random.Random], Blow | None]


def kill_worker(world: World, chance: random.Random) -> Blow | None:
    """SIGKILL: power loss, the system out of memory."""
    worker = pick(chance, world.alive())
    if worker is None:
        return None
    world.meant.add(worker.pid)
    _engines_go_on(world)
    world.signal(worker.pid, signal.SIGKILL)
    return Blow(target=f"worker {worker.pid}", worker=worker.pid)


def freeze_worker(world: World, chance: random.Random) -> Blow | None:
    """SIGSTOP for up to two leases: a zombie when it wakes."""
    worker = pick(chance, world.alive())
    if worker is None:
        return None
    world.signal(worker.pid, signal.SIGSTOP)
    for_s = chance.uniform(0.2, 2.0) * LEASE_S
    undo = partial(world.signal, worker.pid, signal.SIGCONT)
    return Blow(target=f"worker {worker.pid}", worker=worker.pid, for_s=for_s, undo=undo)


def drain_worker(world: World, chance: random.Random) -> Blow | None:
    """SIGTERM: a deploy."""
    worker = pick(chance, world.alive())
    if worker is None:
        return None
    world.meant.add(worker.pid)
    world.signal(worker.pid, signal.SIGCONT)
    world.signal(worker.pid, signal.SIGTERM)
    return Blow(target=f"worker {worker.pid}", worker=worker.pid)


def kill_engine(world: World, chance: random.Random) -> Blow | None:
    """SIGKILL: what the kernel does when memory runs out."""
    engine = pick(chance, world.engines())
    if engine is None:
        return None
    by = engine.ppid()
    world.signal(engine.pid, signal.SIGKILL)
    return Blow(target=f"engine {engine.pid}", worker=by)


def freeze_engine(world: World, chance: random.Random) -> Blow | None:
    """SIGSTOP: a machine that swaps."""
    engine = pick(chance, world.engines())
    if engine is None:
        return None
    by = engine.ppid()
    world.signal(engine.pid, signal.SIGSTOP)
    for_s = chance.uniform(0.2, 1.0) * LEASE_S
    undo = partial(world.signal, engine.pid, signal.SIGCONT)
    return Blow(target=f"engine {engine.pid}", worker=by, for_s=for_s, undo=undo)


def stop_database(world: World, chance: random.Random) -> Blow | None:
    """A PostgreSQL that is shut down at once, with every connection; a SQLite file that somebody keeps locked."""
    if "database" in world.away:
        return None
    if world.database is None:
        lock = sqlite3.connect(world.backend.settings.data_dir / "cpd.sqlite3", isolation_level=None, timeout=1)
        try:
            lock.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            # A worker that stands still has it already.
            lock.close()
            return None
        return _away(world, "database", lock.close, chance.uniform(0.2, 2.0))
    world.database.stop()
    return _away(world, "database", world.database.start, chance.uniform(0.2, 2.0))


def freeze_database(world: World, chance: random.Random) -> Blow | None:
    """Every process of PostgreSQL stands still: connections are open and nothing answers."""
    if world.database is None or "database" in world.away:
        return None
    world.database.freeze()
    return _away(world, "database", world.database.thaw, chance.uniform(0.2, 2.0))


def crash_database(world: World, chance: random.Random) -> Blow | None:
    """One of its backends is killed: PostgreSQL throws everybody out and recovers."""
    if world.database is None or "database" in world.away:
        return None
    with suppress(psutil.NoSuchProcess):
        backends = psutil.Process(world.database.pid).children()
        clients = [process for process in backends if "chaos 127.0.0.1" in " ".join(process.cmdline())]
        victim = pick(chance, clients)
        if victim is not None:
            victim.kill()
            return Blow(target=f"backend {victim.pid}")
    return None


def stop_broker(world: World, chance: random.Random) -> Blow | None:
    """A Redis without persistence is stopped, and comes back empty; messages in a folder are deleted."""
    if world.broker is None:
        messages = world.backend.settings.broker_dir / "messages"
        for message in messages.glob("*.msg"):
            message.unlink(missing_ok=True)
        return Blow(target="messages")
    if "broker" in world.away:
        return None
    world.broker.stop()
    return _away(world, "broker", world.broker.start, chance.uniform(0.2, 3.0))


def freeze_broker(world: World, chance: random.Random) -> Blow | None:
    """Redis hangs."""
    if world.broker is None or "broker" in world.away:
        return None
    world.broker.freeze()
    return _away(world, "broker", world.broker.thaw, chance.uniform(0.2, 3.0))


def ring_often(world: World, chance: random.Random) -> Blow | None:
    """The same message twenty times, for a job that may be running, over, or nobody's."""
    job_id = pick(chance, [*world.jobs, "job_none"]) or "job_none"
    if "broker" in world.away:
        return None
    with suppress(BrokerAway, OSError):
        app = celery_app(world.backend.settings)
        for _ in range(20):
            ring(app, job_id)
    return Blow(target=job_id)


def cancel(world: World, chance: random.Random) -> Blow | None:
    """A person gives a job up."""
    return _asked(world, chance, transitions.request_cancel)


def pause(world: World, chance: random.Random) -> Blow | None:
    """A person wants the machine for something else."""
    return _asked(world, chance, transitions.request_pause)


def resume(world: World, chance: random.Random) -> Blow | None:
    """And gives it back."""
    return _asked(world, chance, transitions.resume)


def _asked(world: World, chance: random.Random, what: Callable[..., None]) -> Blow | None:
    if "database" in world.away:
        return None
    with suppress(SQLAlchemyError, ServiceError):
        row = pick(chance, world.unfinished())
        if row is None:
            return None
        if what is transitions.request_cancel:
            # Before it is asked: an answer that is lost is no proof that nothing was done.
            world.cancelled.add(row.id)
        world.fleet.ask(what, row.id)
        return Blow(target=row.id)
    return None


def _away(world: World, server: str, back: Callable[[], None], leases: float) -> Blow:
    world.away.add(server)

    def undo() -> None:
        back()
        world.away.discard(server)

    return Blow(target=server, for_s=leases * LEASE_S, undo=undo)


def _engines_go_on(world: World) -> None:
    """An engine that stands still cannot see that its worker is gone: nothing but a debugger leaves it so."""
    for engine in world.engines():
        world.signal(engine.pid, signal.SIGCONT)


# How often each is drawn.
FAULTS: dict[str, tuple[Fault, int]] = {
    "kill worker": (kill_worker, 4),
    "freeze worker": (freeze_worker, 3),
    "drain worker": (drain_worker, 2),
    "kill engine": (kill_engine, 5),
    "freeze engine": (freeze_engine, 2),
    "stop database": (stop_database, 2),
    "freeze database": (freeze_database, 2),
    "crash database": (crash_database, 2),
    "stop broker": (stop_broker, 2),
    "freeze broker": (freeze_broker, 1),
    "ring often": (ring_often, 2),
    "cancel": (cancel, 1),
    "pause": (pause, 2),
    "resume": (resume, 2),
}
