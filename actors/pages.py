"""The worker's pages: /health/live, /health/ready and /metrics on METRICS_PORT, from whichever process answers."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from contextlib import suppress

from relay import metrics
from relay.runtime import Worker, health

_HEAD_S = 5.0
_LOG = logging.getLogger(__name__)


class Pages:
    """A listener shared by all processes of a worker: the kernel gives each connection to one of them."""

    def __init__(self, relay: Worker) -> None:
        self._relay = relay
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen, unless METRICS_PORT is 0; a port that is taken is a warning, not a stop."""
        settings = self._relay.settings
        if settings.metrics_port == 0:
            return
        try:
            listener = socket.create_server((settings.host, settings.metrics_port), reuse_port=True)
            self._server = await asyncio.start_server(self._answer, sock=listener)
        except OSError as cause:
            _LOG.warning(
                "no health and metrics pages: METRICS_PORT %d cannot be used (%s)", settings.metrics_port, cause
            )

    async def close(self) -> None:
        """Stop to listen."""
        if self._server is not None:
            self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _HEAD_S)
            status, kind, body = await self._page(head.split(b" ", 2)[1].partition(b"?")[0].decode("latin-1"))
            fields = f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close"
            writer.write(f"HTTP/1.1 {status}\r\n{fields}\r\n\r\n".encode() + body)
            await writer.drain()
        writer.close()

    async def _page(self, path: str) -> tuple[str, str, bytes]:
        if path == "/health/live":
            return "200 OK", "application/json", b'{"status":"ok"}'
        if path == "/health/ready":
            state = await health(self._relay.db, self._relay.queue)
            ready = state["postgres"] == "up" and state["schema"] == "current"
            status = "200 OK" if ready else "503 Service Unavailable"
            return status, "application/json", json.dumps(state).encode()
        if path == "/metrics" and self._relay.settings.metrics_provider:
            return "200 OK", metrics.CONTENT_TYPE, metrics.render()
        return "404 Not Found", "text/plain", b"There are /health/live, /health/ready and /metrics.\n"
