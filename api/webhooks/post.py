"""One POST to a webhook: to an address that was checked, without following anywhere, within a time, reading the status alone."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

from api.webhooks.addresses import Forbidden, Reach, check_url, resolved

_TRIED = 4


class Undeliverable(Exception):
    """The receiver was not reached, or said nothing that is HTTP. The message is for its owner."""


def post(url: str, body: bytes, headers: Mapping[str, str], *, reach: Reach, timeout_s: float) -> int:
    """The status of the answer, whose body nobody reads. Raises Undeliverable, at the latest when `timeout_s` is over."""
    try:
        check_url(url, reach)
        parts = urlsplit(url)
        host, secure = str(parts.hostname), parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        connection = _Connection(host, port, resolved(host, port, reach)[:_TRIED], secure=secure, timeout_s=timeout_s)
    except Forbidden as error:
        raise Undeliverable(f"the address is not allowed: {error}") from error
    except OSError as error:
        raise Undeliverable("the host's name was not found") from error
    target = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
    try:
        with _ended_after(connection, timeout_s):
            connection.request("POST", target, body, dict(headers))
            status = connection.getresponse().status
            if connection.over:
                # Cut off among the headers, which http.client takes for their end.
                raise TimeoutError
            return status
    except ssl.SSLCertVerificationError as error:
        raise Undeliverable(f"the certificate was not accepted: {error.verify_message}") from error
    except (OSError, ValueError, AttributeError, http.client.HTTPException) as error:
        # AttributeError: http.client's own, where the deadline closed the connection between two of its steps.
        raise Undeliverable(f"no answer: {type(error).__name__}") from error


class _Connection(http.client.HTTPConnection):
    """A connection to one of the addresses given. The name is for the Host header and the certificate alone."""

    def __init__(self, host: str, port: int, addresses: list[str], *, secure: bool, timeout_s: float) -> None:
        self.default_port = 443 if secure else 80
        super().__init__(host, port, timeout=timeout_s)
        self._addresses, self._secure, self._timeout_s = addresses, secure, timeout_s
        self.over = False
        self.open: socket.socket | None = None

    def connect(self) -> None:
        """To the first address that answers. Raises OSError."""
        failed: OSError = ConnectionError("no address")
        for address in self._addresses:
            if self.over:
                raise TimeoutError
            try:
                self.open = socket.create_connection((address, self.port), self._timeout_s)
            except OSError as error:
                failed = error
                continue
            self.sock = self.open
            if self._secure:
                # Wrapped before hands are shaken, so that the deadline finds the one that waits.
                wrapped = ssl.create_default_context().wrap_socket(
                    self.open, server_hostname=self.host, do_handshake_on_connect=False
                )
                self.sock = self.open = wrapped
                wrapped.do_handshake()
            return
        raise failed


@contextmanager
def _ended_after(connection: _Connection, timeout_s: float) -> Iterator[None]:
    """The time-out of a socket is of each read, of which a slow receiver can make any number; this one is of all."""

    def end() -> None:
        connection.over = True
        if connection.open is not None:
            with suppress(OSError):
                # Past TLS, whose own farewell would have to be waited for.
                socket.socket.shutdown(connection.open, socket.SHUT_RDWR)

    timer = threading.Timer(timeout_s, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        connection.close()
