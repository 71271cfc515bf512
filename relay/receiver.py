"""A small web server on loopback that receives webhooks: the endpoints of `relay listen` and `relay demo`."""

from __future__ import annotations

import socketserver
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from socket import socket
from typing import Any

from relay.errors import Unavailable

_BODY_LIMIT = 64 << 20


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request that came in; header names are lower case."""

    at: datetime
    path: str
    headers: dict[str, str]
    body: bytes


class _Unreadable(Exception):
    """The request's body cannot be read; the connection is closed after the status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Receiver:
    """Serves on 127.0.0.1 from `start` to `close`, each connection in a thread of its own."""

    def __init__(
        self,
        *,
        reply: Callable[[Arrival], int],
        seen: Callable[[Arrival], None] = lambda _: None,
        port: int = 0,
    ) -> None:
        """`reply` chooses the status and may take its time; `seen` is called once the answer is on its way."""
        try:
            self._server = _Server(port, reply, seen)
        except (OSError, OverflowError) as cause:
            raise Unavailable(
                f"Port {port} of 127.0.0.1 cannot be used ({cause}); choose another with --port."
            ) from cause
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="receiver", daemon=True)

    @property
    def url(self) -> str:
        """Where it is served."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/"

    def start(self) -> None:
        """Begin to take requests."""
        self._thread.start()

    def close(self) -> None:
        """Take no more requests."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    request_queue_size = 256

    def __init__(self, port: int, reply: Callable[[Arrival], int], seen: Callable[[Arrival], None]) -> None:
        self.reply = reply
        self.seen = seen
        super().__init__(("127.0.0.1", port), _Handler)

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's own asks DNS for the name of 127.0.0.1

    def handle_error(self, request: socket | tuple[bytes, socket], client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # a sender that hangs up is no trouble of ours
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 120

    def do_POST(self) -> None:
        try:
            body = _read_body(self.headers, self.rfile)
        except _Unreadable as cause:
            self.close_connection = True
            self._answer(cause.status)
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        arrival = Arrival(at=datetime.now(UTC), path=self.path, headers=headers, body=body)
        self._answer(self.server.reply(arrival))
        self.server.seen(arrival)

    def do_GET(self) -> None:
        self._answer(200, b"Relay's deliveries are received here, by POST.\n")

    def _answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: whoever serves prints what it wants seen."""


def _read_body(headers: Message, source: BufferedIOBase) -> bytes:
    if "chunked" in headers.get("Transfer-Encoding", "").lower():
        return _read_chunks(source)
    length = headers.get("Content-Length", "0")
    if not (length.isascii() and length.isdigit()):
        raise _Unreadable(400)
    return _read_exactly(source, int(length))


def _read_chunks(source: BufferedIOBase) -> bytes:
    parts: list[bytes] = []
    while size := _chunk_size(source):
        parts.append(_read_exactly(source, size))
        source.readline(3)
        if sum(map(len, parts)) > _BODY_LIMIT:
            raise _Unreadable(413)
    while source.readline(8192).strip():
        pass
    return b"".join(parts)


def _chunk_size(source: BufferedIOBase) -> int:
    try:
        return int(source.readline(1024).partition(b";")[0], 16)
    except ValueError as cause:
        raise _Unreadable(400) from cause


def _read_exactly(source: BufferedIOBase, length: int) -> bytes:
    if not 0 <= length <= _BODY_LIMIT:
        raise _Unreadable(413)
    body = source.read(length)
    if len(body) < length:
        raise _Unreadable(400)
    return body
