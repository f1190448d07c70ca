"""`cpd serve`: the whole service in one command. The API runs here, the worker in a supervised child that never outlives us."""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import uvicorn

from api.app import create_app
from api.core.db import connect, sessions, transaction
from api.core.settings import Settings
from api.core.storage import StoreUnavailable
from api.core.stores import open_store
from api.keys.service import ensure_first_key, has_key, refuse_open_bind
from api.remote.trouble import BadInput
from api.server import Server
from api.supervisor import Supervisor
from api.terminal.operator import data_folder, environment_of, migrate_database

# Streams are cut after this long when we stop; their clients reconnect and go on at the event they had.
API_GRACE_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """What a person or script needs to know once the service answers. `first_key` is there only when it has just been made."""

    url: str
    data_dir: Path
    key_file: Path | None
    first_key: str | None
    workers: int


def prepare(settings: Settings) -> str | None:
    """Bring the database to this version and make the first key if there is none; the key, if so.

    Raises ServerUnreachable where the database does not answer, and BadInput where the service would listen beyond this machine
    without a key made on purpose, or has no store.
    """
    data_folder(settings)
    check_store(settings)
    migrate_database(settings)
    engine = connect(settings.database_url)
    try:
        with transaction(sessions(engine)) as session:
            refuse_open_bind(settings.host, has_key=has_key(session))
            first = ensure_first_key(session)
            if first is not None:
                # Inside the transaction: a key that could not be written down is not made.
                write_secret(settings.key_file, first)
            return first
    except ValueError as error:
        raise BadInput(str(error)) from error
    finally:
        engine.dispose()


def check_store(settings: Settings) -> None:
    """See that files can be kept where the settings say. Raises BadInput with what is wrong there."""
    try:
        with closing(open_store(settings)) as store:
            store.check()
    except StoreUnavailable as error:
        raise BadInput(str(error)) from error


def write_secret(file: Path, text: str) -> None:
    """Write a file that only its owner can read, from its first byte on."""
    with suppress(FileNotFoundError):
        file.unlink()
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as opened:
        opened.write(text + "\n")


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any free one. Raises BadInput where it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named for asyncio, which sets TCP_NODELAY only where it reads IPPROTO_TCP. Without it the body of an answer, sent
    # after its head, waits some 40 ms for the client's delayed acknowledgement.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(2048)
    except OSError as error:
        listening.close()
        remedy = "choose another with --port, or any free one with --port 0"
        raise BadInput(f"cannot listen on {host} port {port} ({error.strerror}): {remedy}") from error
    return listening


def serve(settings: Settings, *, announce: Callable[[Ready], None], say: Callable[[str], None]) -> None:
    """Run until SIGTERM, SIGINT or SIGHUP; then drain the API and the workers side by side. A second signal ends both at once."""
    first_key = prepare(settings)
    listening = bind(settings.host, settings.port)
    host, port = listening.getsockname()[:2]
    app = create_app(settings)
    _collect_seldom()
    config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=int(API_GRACE_S))
    server = Server(app, config)
    command = (sys.executable, "-m", "worker", "--watchdog")
    environment = environment_of(settings, dict(os.environ))
    workers = [Supervisor(command, environment, say=say) for _ in range(settings.embedded_workers)]
    ready = Ready(
        url=f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}",
        data_dir=settings.data_dir,
        key_file=settings.key_file if settings.key_file.exists() else None,
        first_key=first_key,
        workers=len(workers),
    )
    with listening:
        _run(server, listening, workers, drain_s=settings.cancel_grace_s + 10, announced=lambda: announce(ready))


def _collect_seldom() -> None:
    """A full collection stops all requests for a tenth of a second, and under load one came every six: what is there now, which stays,
    is not walked again, and there are fourteen times as many new objects between two of them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000)


def _wait_for_start(server: uvicorn.Server, ended: threading.Event) -> None:
    while not server.started and not ended.wait(0.02):
        pass


def _run(
    server: uvicorn.Server,
    listening: socket.socket,
    workers: list[Supervisor],
    *,
    drain_s: float,
    announced: Callable[[], None],
) -> None:
    """The main thread waits for signals; uvicorn, in a thread, then leaves them alone, so that API and workers drain together."""
    ended = threading.Event()

    def run_api() -> None:
        try:
            server.run(sockets=[listening])
        finally:
            ended.set()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        again, server.should_exit = server.should_exit, True
        for worker in workers:
            if again:
                worker.kill()
            else:
                worker.ask_to_stop()
        server.force_exit = again

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, on_signal)
    api = threading.Thread(target=run_api, name="api", daemon=True)
    api.start()
    _wait_for_start(server, ended)
    if server.started and not server.should_exit:
        for worker in workers:
            worker.start()
        announced()
    ended.wait()
    for worker in workers:
        worker.stop(drain_s)
    api.join()
    if not server.started and not server.should_exit:
        raise BadInput("the API did not start: the reason is in the log above")
