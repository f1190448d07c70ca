"""Which addresses are the whole internet's, and how long a receiver may take over its answer."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from api.webhooks.addresses import is_public
from api.webhooks.post import Undeliverable, post


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "224.0.0.1",
        "255.255.255.255", "::1", "::", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:10.0.0.1", "64:ff9b::a00:1",
        "2002:7f00:1::", "2001:0:4136:e378:8000:63bf:80ff:fffe",
    ],
)  # fmt: skip
def test_an_address_of_one_s_own_network_is_not_whatever_it_is_wrapped_in(address: str) -> None:
    assert not is_public(address)


def test_a_receiver_that_never_ends_its_answer_is_left() -> None:
    """A byte now and then satisfies the time-out of every single read."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\nx-slow: ")
                try:
                    while not over.wait(0.05):
                        connection.sendall(b"a")
                except OSError:
                    over.set()

        thread = threading.Thread(target=drip)
        thread.start()
        with pytest.raises(Undeliverable):
            post(f"http://127.0.0.1:{server.getsockname()[1]}/", b"{}", {}, reach="any", timeout_s=0.5)
        assert over.wait(20)
        thread.join()


class Accepts(BaseHTTPRequestHandler):
    """Says 204 to every POST."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def secured(folder: Path, name: str) -> Iterator[tuple[int, Path]]:
    """A receiver over TLS whose certificate, which signs itself, is `name`'s; its port and the certificate."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
    made += ["-addext", f"subjectAltName=DNS:{name}", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(made, check=True, capture_output=True, timeout=60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with HTTPServer(("127.0.0.1", 0), Accepts) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.server_port, certificate
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl on the PATH; apt-get install openssl")
@pytest.mark.parametrize(
    ("name", "trusted", "refusal"),
    [("localhost", True, None), ("localhost", False, "certificate"), ("elsewhere.example", True, "certificate")],
)
def test_a_certificate_must_be_trusted_and_the_host_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, trusted: bool, refusal: str | None
) -> None:
    """The connection goes to a checked address; the certificate is held against the name all the same."""
    with secured(tmp_path, name) as (port, certificate):
        if trusted:
            monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        url = f"https://localhost:{port}/hook"
        if refusal is None:
            assert post(url, b"{}", {}, reach="any", timeout_s=10.0) == 204
        else:
            with pytest.raises(Undeliverable, match=refusal):
                post(url, b"{}", {}, reach="any", timeout_s=10.0)
