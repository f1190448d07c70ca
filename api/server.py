"""The HTTP server: event streams end with it, and a client that does not get to its point is hung up on."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from api.deps import Resources


class Server(uvicorn.Server):
    """uvicorn with two habits of our own.

    It ends event streams as the first thing of its shutdown, for it waits for open answers before it tells the application; their
    clients reconnect and go on where they were. And it closes connections whose next request does not get through its head in time,
    which uvicorn leaves open for ever.
    """

    def __init__(self, app: FastAPI, config: uvicorn.Config) -> None:
        self._resources: Resources = app.state.resources
        config.http = hurried(self._resources.settings.head_timeout_s)
        super().__init__(config)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams, then everything else."""
        self._resources.feeds.close()
        await super().shutdown(sockets)


def hurried(head_s: float) -> type[asyncio.Protocol]:
    """HTTP/1.1 for connections that have `head_s` seconds from their start, or from the first byte of a later request, to its body."""

    class Hurried(H11Protocol):
        _deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._deadline = self.loop.call_later(head_s, transport.close)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.conn.their_state is not h11.IDLE:
                self._forget()
            elif self._deadline is None:
                self._deadline = self.loop.call_later(head_s, self.transport.close)

        def connection_lost(self, exc: Exception | None) -> None:
            self._forget()
            super().connection_lost(exc)

        def _forget(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

    return Hurried
