"""The HTTP server. uvicorn waits for open answers before it tells the application to stop; event streams would never let it."""

from __future__ import annotations

import socket

import uvicorn
from fastapi import FastAPI

from api.deps import Resources


class Server(uvicorn.Server):
    """uvicorn that ends event streams as the first thing of its shutdown. Their clients reconnect and go on where they were."""

    def __init__(self, app: FastAPI, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._resources: Resources = app.state.resources

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams, then everything else."""
        self._resources.feeds.close()
        await super().shutdown(sockets)
