"""A hub on a free port of this machine: the few answers of the Hugging Face protocol that downloading a snapshot takes."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class HubStub:
    """`repos`: "models/org/name" or "datasets/org/name" → folder. The next `failures` requests are answered with 503.

    `announced`: files that every listing names beside those of the folder.
    """

    repos: Mapping[str, Path]
    failures: int = 0
    announced: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    endpoint: str = ""

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of a request."""
        self.requests.append(path)
        if self.failures > 0:
            self.failures -= 1
            return 503, {}, b""
        parts = unquote(urlsplit(path).path).strip("/").split("/")
        if parts[0] == "api":
            return self._listing(parts[1:])
        kind, parts = ("datasets", parts[1:]) if parts[0] == "datasets" else ("models", parts)
        file = self.repos.get(f"{kind}/{parts[0]}/{parts[1]}", Path("/nowhere")).joinpath(*parts[4:])
        if not file.is_file():
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        body = file.read_bytes()
        return 200, {"ETag": f'"{hashlib.sha256(body).hexdigest()}"', "X-Repo-Commit": COMMIT}, body

    def _listing(self, parts: list[str]) -> tuple[int, dict[str, str], bytes]:
        name, (what, revision) = "/".join(parts[:3]), parts[3:5]
        if name not in self.repos:
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        if revision not in ("main", COMMIT):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        root = self.repos[name]
        files = sorted(path for path in root.rglob("*") if path.is_file())
        names = [path.relative_to(root).as_posix() for path in files]
        if what == "revision":
            siblings = [{"rfilename": name} for name in [*names, *self.announced]]
            return 200, {}, json.dumps({"id": "/".join(parts[1:3]), "sha": COMMIT, "siblings": siblings}).encode()
        tree = [
            {"type": "file", "path": name, "size": path.stat().st_size, "oid": hashlib.sha1(name.encode()).hexdigest()}
            for name, path in zip(names, files, strict=True)
        ]
        return 200, {}, json.dumps(tree).encode()


@contextmanager
def serving(stub: HubStub) -> Iterator[HubStub]:
    """Serve the stub until the block ends; its `endpoint` is set."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = stub.answer(self.path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the signature is http.server's
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    stub.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
