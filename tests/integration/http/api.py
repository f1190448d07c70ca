"""The API on a real server, with keys for three kinds of people, and words for what its tests do again and again."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import uuid4

import httpx
import uvicorn
from fastapi import FastAPI
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from api.app import create_app
from api.artifacts import queries as artifact_queries
from api.artifacts.queries import Sealed
from api.core.archive import sha256_of
from api.core.db import transaction
from api.deps import Resources
from api.events import queries as event_queries
from api.events.queries import Line, Point
from api.jobs import transitions
from api.jobs.lease import Hold
from api.jobs.transitions import Claim
from api.keys.schemas import Scope
from api.keys.service import create_key
from api.serve import check_store
from api.server import Server
from cpd_engine.config import RunConfig
from cpd_engine.events import Compared, to_json
from tests.backends import Backend
from tests.deadline import eventually

SPEC: dict[str, Any] = {
    "teacher": {"tiny": "gpt2"},
    "student": {"from": "teacher", "drop_layers": 1},
    "dataset": {"synthetic": {"rows": 1200}},
    "epochs": 4,
    "name": "a first try",
    "metadata": {"team": "maths"},
}
COMPARISON: dict[str, Any] = {
    "base": {name: value for name, value in SPEC.items() if name not in ("name", "metadata")},
    "members": [{"label": "kld", "set": {"preset": "kld"}}, {"label": "cpd", "set": {"preset": "cpd"}}],
    "seeds": [0, 1],
    "name": "two methods",
}
TABLE: dict[str, Any] = json.loads(to_json(Compared(rows=12, baseline="kld", budget="so many steps", members=())))
ROWS = b"".join(b'{"instruction": "Add 1 and %d.", "output": "%d"}\n' % (i, i + 1) for i in range(200))
JSONL = {"content-type": "application/jsonl"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """A served application. `owner` has every scope of the tenant "test", `reader` only read, `other` is of another tenant."""

    backend: Backend
    app: FastAPI
    server: Server
    url: str
    owner: httpx.Client
    reader: httpx.Client
    other: httpx.Client
    anonymous: httpx.Client
    keys: Mapping[str, str] = field(default_factory=dict)

    @property
    def resources(self) -> Resources:
        """What the process holds."""
        return cast("Resources", self.app.state.resources)

    def submit(self, **changed: Any) -> str:
        """The id of a new queued job."""
        answer = self.owner.post("/v1/jobs", json=SPEC | changed)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def compare(self, **changes: Any) -> str:
        """The id of a new comparison."""
        answer = self.owner.post("/v1/comparisons", json=COMPARISON | changes)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def comparison(self, comparison_id: str) -> dict[str, Any]:
        """A comparison as its owner sees it."""
        return dict(self.owner.get(f"/v1/comparisons/{comparison_id}").json())

    def members(self, comparison_id: str) -> list[str]:
        """The ids of a comparison's jobs."""
        return [run["job"] for member in self.comparison(comparison_id)["members"] for run in member["runs"]]

    def end_members(self, comparison_id: str) -> None:
        """Every job of a comparison ends well."""
        for job_id in self.members(comparison_id):
            self.succeed(self.claim(job_id))

    def make_table(self, comparison_id: str) -> None:
        """The table's job does its work."""
        hold = self.claim(self.comparison(comparison_id)["table_job"])
        self.seal(hold, "table", {"manifest.json": b"{}", "figure.png": b"picture", "figure.json": b"{}"})
        self.say(hold, ("compared", TABLE))
        self.succeed(hold)

    def upload(self, content: bytes = ROWS, **query: Any) -> str:
        """The id of a new data set."""
        answer = self.owner.post("/v1/datasets", params={"name": "rows.jsonl"} | query, content=content, headers=JSONL)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def claim(self, job_id: str) -> Hold:
        """A worker takes the job."""
        with transaction(self.backend.make) as session:
            claim = transitions.claim(session, job_id, worker_id="w1", lease_s=60.0)
        assert isinstance(claim, Claim)
        return claim.hold

    def say(
        self, hold: Hold, *events: tuple[str, Mapping[str, Any]], points: Sequence[Point] = (), at: int = 1
    ) -> None:
        """The engine's lines from number `at` reach the database."""
        lines = [Line(eseq=at + i, kind=kind, data={"kind": kind, **data}) for i, (kind, data) in enumerate(events)]
        with transaction(self.backend.make) as session:
            event_queries.append_events(session, hold, lines, points=points)

    def succeed(self, hold: Hold) -> None:
        """The job ends well."""
        with transaction(self.backend.make) as session:
            transitions.succeed(session, hold)

    def seal(self, hold: Hold, name: str, files: Mapping[str, bytes], *, role: str = "export") -> str:
        """A sealed directory reaches the store and the database; its storage prefix."""
        prefix = f"jobs/{hold.job_id}/{hold.fence}/{name}"
        source = self.backend.settings.data_dir / uuid4().hex
        source.mkdir(parents=True)
        entries: list[dict[str, Any]] = []
        for number, (path, content) in enumerate(files.items()):
            file = source / str(number)
            file.write_bytes(content)
            sha256 = sha256_of(file)
            self.resources.store.put(f"{prefix}/{path}", file, sha256=sha256)
            entries.append({"path": path, "size_bytes": len(content), "sha256": sha256})
        sealed = Sealed(
            id=f"art_{uuid4().hex}",
            name=name,
            role=role,
            path=f"out/{name}",
            storage_prefix=prefix,
            files=entries,
            manifest_sha256=entries[0]["sha256"],
            size_bytes=sum(len(content) for content in files.values()),
            step=7,
            metrics={"rouge_l": 40.5},
        )
        with transaction(self.backend.make) as session:
            artifact_queries.add(session, hold, sealed)
        return prefix

    def client(self, key: str | None) -> httpx.Client:
        """A client with this key; close it."""
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=20.0)

    def new_key(self, *scopes: Scope, tenant: str = "test") -> str:
        """A key as text."""
        return new_key(self.backend, *scopes, tenant=tenant)


def new_key(backend: Backend, *scopes: Scope, tenant: str = "test") -> str:
    """A key as text."""
    with transaction(backend.make) as session:
        return create_key(session, name="test", scopes=scopes, tenant=tenant)


@contextmanager
def serving(backend: Backend) -> Iterator[Api]:
    """The API on a free port, in a thread."""
    keys = {
        "owner": new_key(backend, "read", "write", "admin"),
        "reader": new_key(backend, "read"),
        "other": new_key(backend, "read", "write", "admin", tenant="other"),
    }
    check_store(backend.settings)
    app = create_app(backend.settings)
    with listening() as sock, served(app, sock) as server, ExitStack() as clients:
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"

        def client(who: str) -> httpx.Client:
            headers = {"authorization": f"Bearer {keys[who]}"} if who in keys else {}
            return clients.enter_context(httpx.Client(base_url=url, headers=headers, timeout=20.0))

        yield Api(
            backend=backend,
            app=app,
            server=server,
            url=url,
            owner=client("owner"),
            reader=client("reader"),
            other=client("other"),
            anonymous=client("anonymous"),
            keys=keys,
        )


@contextmanager
def listening(port: int = 0) -> Iterator[socket.socket]:
    """A listening socket on the loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", port))
        sock.listen()
        yield sock


@contextmanager
def served(app: FastAPI, sock: socket.socket) -> Iterator[Server]:
    """The application behind a real server until the block ends."""
    server = Server(app, uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=10))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, name="uvicorn")
    thread.start()
    try:
        eventually(lambda: server.started, within_s=20, what="the start of the server")
        yield server
    finally:
        server.should_exit = True
        thread.join()


def resolved(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The spec with its preset filled in, as the service answers it."""
    return RunConfig.model_validate(spec).resolved().model_dump(mode="json")


@contextmanager
def outage(api: Api) -> Iterator[Callable[[], int]]:
    """The API's connections fail as those of a database that is away do; the test's own still work. Gives the failures so far."""
    failures = 0

    def refuse(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        nonlocal failures
        failures += 1
        raise OperationalError(statement, None, OSError("connection refused"))

    event.listen(api.resources.engine, "before_cursor_execute", refuse)
    try:
        yield lambda: failures
    finally:
        event.remove(api.resources.engine, "before_cursor_execute", refuse)
