"""The worker's pages: /health/live, /health/ready and /metrics on METRICS_PORT, from whichever process answers."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import suppress

from relay import metrics
from relay.runtime import Worker
from relay.vitals import health

_HEAD_S = 5.0


class Pages:
    """Answers on the listener that `relay worker` opened: the kernel gives each connection to one of its processes."""

    def __init__(self, relay: Worker) -> None:
        self._relay = relay
        self._server: asyncio.Server | None = None

    async def open(self, listener: socket.socket) -> None:
        """Answer from now on."""
        self._server = await asyncio.start_server(self._answer, sock=listener)

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
            return "200 OK", "application/json", b'{"status":"live"}'
        if path == "/health/ready":
            state = await health(self._relay.db, self._relay.queue)
            ready = state["postgres"] == "up" and state["schema"] == "current"
            status = "200 OK" if ready else "503 Service Unavailable"
            return status, "application/json", json.dumps(state).encode()
        if path == "/metrics" and self._relay.settings.metrics_provider == "prometheus":
            return "200 OK", metrics.CONTENT_TYPE, await asyncio.to_thread(metrics.render)
        return "404 Not Found", "text/plain", b"There are /health/live, /health/ready and /metrics.\n"
