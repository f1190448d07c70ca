"""Connections of the socket that `cpd serve` listens on."""

from __future__ import annotations

import socket

import httpx
import pytest

from api.app import create_app
from api.serve import bind
from tests.backends import Backend
from tests.integration.http.api import served


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_an_answer_does_not_wait_for_a_delayed_acknowledgement(short: Backend) -> None:
    with bind("127.0.0.1", 0) as listening, served(create_app(short.settings), listening) as server:
        host, port = listening.getsockname()
        with httpx.Client(base_url=f"http://{host}:{port}") as client:
            client.get("/healthz")
            (connection,) = server.server_state.connections
            accepted: socket.socket = connection.transport.get_extra_info("socket")

            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
