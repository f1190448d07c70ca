"""Clients that dawdle, and clients that go away: the service stays what it was, and nothing of theirs stays."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.backends import Backend
from tests.deadline import eventually
from tests.integration.http.api import ROWS, Api, serving
from tests.integration.http.streams import following

FORM = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n' + ROWS


@contextmanager
def connected(api: Api, sent: bytes = b"") -> Iterator[socket.socket]:
    host, port = api.url.removeprefix("http://").split(":")
    with socket.socket() as connection:
        # So little waits to be read that a server with much to send has to wait as well.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(20)
        connection.connect((host, int(port)))
        connection.sendall(sent)
        yield connection


def head(api: Api, address: str, media: str, length: int) -> bytes:
    lines = [
        f"POST {address} HTTP/1.1",
        "Host: x",
        f"Authorization: Bearer {api.keys['owner']}",
        f"Content-Type: {media}",
        f"Content-Length: {length}",
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def said(connection: socket.socket) -> bytes:
    """Everything until the server hangs up."""
    return b"".join(iter(lambda: connection.recv(65_536), b""))


def drip(connection: socket.socket, byte: bytes) -> bytes:
    """What the server says to a client that sends a byte every tenth of a second, however long that goes on."""
    heard = b""
    with suppress(ConnectionError):  # hung up, at whichever byte
        while not select.select([connection], [], [], 0.1)[0]:
            connection.sendall(byte)
    # What it said before a byte came too late has arrived all the same.
    with suppress(ConnectionError):
        while piece := connection.recv(65_536):
            heard += piece
    return heard


def open_files(api: Api) -> list[str]:
    """Stored or half received files that this process, which serves, holds open."""
    held = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            held.append(str(link.readlink()))
        except OSError:  # the one by which the folder is read
            continue
    return [path for path in held if path.startswith(str(api.backend.settings.data_dir)) and "/cpd.sqlite3" not in path]


def at_rest(api: Api) -> bool:
    """No upload lies about, no file is open, no connection of the database is out, nobody is followed."""
    uploads = api.backend.settings.scratch_dir / "uploads"
    pool = api.resources.engine.pool
    return not (
        list(uploads.glob("*")) or open_files(api) or pool.checkedout() or api.resources.feeds.feeds  # type: ignore[attr-defined]  # QueuePool's
    )


@pytest.fixture
def hurried(short: Backend) -> Iterator[Api]:
    """The API with little patience for heads."""
    with serving(short.with_settings(head_timeout_s=2.0)) as api:
        yield api


def test_connections_that_never_say_what_they_want_are_closed_and_hinder_nobody(hurried: Api) -> None:
    with ExitStack() as stack:
        silent = stack.enter_context(connected(hurried))
        slow = [stack.enter_context(connected(hurried, b"GET /v1/jobs HTTP/1.1\r\nHost: x\r\nX-")) for _ in range(50)]
        dripping = stack.enter_context(connected(hurried, b"GET /v1/jobs HTTP/1.1\r\nX-Long: "))

        assert hurried.owner.get("/v1/jobs").is_success
        assert [said(connection) for connection in (silent, *slow)] == [b""] * 51
        assert drip(dripping, b"a") == b""


def test_a_second_request_has_no_more_time_than_the_first(hurried: Api) -> None:
    with connected(hurried, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n") as connection:
        answer = b""
        while not answer.endswith(b'{"status":"ok"}'):
            answer += connection.recv(65_536)
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHo")

        assert said(connection) == b""


def test_a_connection_that_is_used_is_left_alone(hurried: Api) -> None:
    with following(hurried.owner, hurried.submit()) as stream:
        seen = [next(stream) for _ in range(15)]  # a ping every 0.2 s: longer than a head may take

    assert len(seen) == 15
    eventually(lambda: at_rest(hurried), within_s=20, what="the end of the stream")


def test_a_body_that_drips_is_given_up_as_a_whole(short: Backend) -> None:
    with serving(short.with_settings(upload_timeout_s=1.0, body_timeout_s=1.0)) as api:
        for address, media in (
            ("/v1/jobs", "application/json"),
            ("/v1/datasets?name=a", "application/jsonl"),
            ("/v1/files", "multipart/form-data; boundary=b"),
        ):
            with connected(api, head(api, address, media, 100_000)) as connection:
                answer = drip(connection, b" ")
            assert b" 408 " in answer.partition(b"\r\n")[0]
            assert b'"code":"body_timeout"' in answer
        eventually(lambda: at_rest(api), within_s=20, what="the removal of what came")
        assert api.owner.get("/v1/files").json()["data"] == []


@pytest.mark.parametrize(
    ("address", "media", "body"),
    [
        ("/v1/datasets?name=a", "application/jsonl", ROWS),
        ("/v1/files", "multipart/form-data; boundary=b", FORM),
        ("/v1/jobs", "application/json", b'{"teacher":'),
        ("/v1/comparisons", "application/json", b'{"base":'),
    ],
)
def test_of_a_request_that_breaks_off_nothing_stays(api: Api, address: str, media: str, body: bytes) -> None:
    for whole in (2 * len(body), 10_000_000):
        with connected(api, head(api, address, media, min(whole, 190_000)) + body):
            pass

    eventually(lambda: at_rest(api), within_s=20, what="the removal of what came")
    for rows in ("/v1/datasets", "/v1/files", "/v1/jobs", "/v1/comparisons"):
        assert api.owner.get(rows).json()["data"] == []
    assert not [path for path in api.backend.settings.store_dir.rglob("*") if path.is_file()]


def test_a_download_that_breaks_off_lets_go_of_everything(api: Api) -> None:
    hold = api.claim(api.submit())
    # More than the buffers of both ends take.
    api.seal(hold, "model", {"manifest.json": b"{}", "model.safetensors": bytes(32 * 2**20)})
    for rest in ("/download", "/files/model.safetensors"):
        lines = f"GET /v1/jobs/{hold.job_id}/checkpoints/model{rest} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.keys['owner']}"
        with connected(api, f"{lines}\r\n\r\n".encode()) as connection:
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
            eventually(lambda: open_files(api), within_s=20, what="the reading of the file")
        eventually(lambda: at_rest(api), within_s=20, what="the end of the download")


def test_a_follower_that_goes_away_is_forgotten(api: Api) -> None:
    job_id = api.submit()
    with following(api.owner, job_id) as stream:
        next(stream)
        eventually(lambda: api.resources.feeds.feeds, within_s=20, what="the feed")

    eventually(lambda: at_rest(api), within_s=20, what="the end of the stream")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnope\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X-Header: a\r\n" * 20_000 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=range(10),
)
def test_what_is_no_http_ends_its_connection_and_nothing_else(api: Api, request_bytes: bytes) -> None:
    with connected(api) as connection:
        try:
            connection.sendall(request_bytes)
            connection.shutdown(socket.SHUT_WR)
            answer = said(connection)
        except OSError:  # hung up before all of it was sent
            answer = b""

    assert not answer or answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 401 ", b"HTTP/1.1 404 ")), answer[:200]
    assert api.anonymous.get("/healthz").is_success
