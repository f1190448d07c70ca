"""MLflow's tracking server on the same PostgreSQL, in an environment of its own: it wants other versions than we do."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

import httpx

from benchmarks.service.recording import Recorded, recorded
from benchmarks.service.stack import Stack, tree_cpu_s
from tests.backends import admin

CLIENT = Path(__file__).with_name("peer_client.py")
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "GIT_PYTHON_REFRESH": "quiet"}
START_S = 120.0


@contextmanager
def tracking(stack: Stack, python: Path) -> Iterator[tuple[str, int]]:
    """The address and the process id of a server as it comes, on a database of its own."""
    admin(stack.database, "CREATE DATABASE mlflow")
    database = stack.database.database("mlflow").replace("+psycopg", "")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [str(python.with_name("mlflow")), "server", "--backend-store-uri", database, "--port", str(port)]
    command += ["--artifacts-destination", str(stack.folder / "mlflow")]
    with (stack.folder / "mlflow.log").open("wb") as log:
        server = subprocess.Popen(
            command, env={**os.environ, **QUIET}, stdout=log, stderr=log, cwd=stack.folder, start_new_session=True
        )
    try:
        _wait(url, stack.folder / "mlflow.log")
        yield url, server.pid
    finally:
        server.terminate()
        server.wait()


def peer(stack: Stack, python: Path, url: str, pid: int, *, steps: int, batch: int, reads: int) -> Recorded:
    """One run of `steps`, logged `batch` points a call by a client in a process of its own."""
    before = tree_cpu_s(pid) + stack.databases_cpu_s()
    words = [str(python), "-W", "ignore", str(CLIENT), url, str(steps), str(batch), str(reads)]
    done = subprocess.run(words, env={**os.environ, **QUIET}, stdout=subprocess.PIPE, check=True, text=True)
    server_cpu_s = tree_cpu_s(pid) + stack.databases_cpu_s() - before
    told = json.loads(done.stdout)
    return recorded(
        f"mlflow, {batch} a call",
        steps=steps,
        points=told["points"],
        wall_s=told["wall_s"],
        cpu_s=told["cpu_s"] + server_cpu_s,
        reads=told["reads"],
    )


def _wait(url: str, log: Path) -> None:
    deadline = monotonic() + START_S
    while True:
        try:
            if httpx.get(f"{url}/health", timeout=2.0).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        if monotonic() > deadline:
            raise TimeoutError(log.read_text(errors="replace")[-2000:])
        sleep(0.2)
