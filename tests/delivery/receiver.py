"""A receiver whose every byte is scripted: it serves raw sockets on the test's own loop and keeps what it was sent."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network

from relay.delivery.transport import Request

LOOPBACK = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it came: the request line, the headers in order, the body's bytes, the number of its connection."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes
    connection: int

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


@dataclass(slots=True)
class Receiver:
    port: int = 0
    scheme: str = "http"
    connections: int = 0
    requests: list[Received] = field(default_factory=list[Received])
    open_writers: set[asyncio.StreamWriter] = field(default_factory=set[asyncio.StreamWriter])

    def url(self, host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.port}/hook?a=1"


@dataclass(frozen=True, slots=True)
class Call:
    """One request in the hands of a script."""

    request: Received
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def reset(self) -> None:
        """Close with an RST, so that what is under way is lost."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Call], Awaitable[None]]


def answers(*raw: bytes) -> Script:
    """Answer each request with the next of these bytes, the last one for ever."""
    left = list(raw)

    async def script(call: Call) -> None:
        call.writer.write(left.pop(0) if len(left) > 1 else left[0])

    return script


def answers_and_closes(raw: bytes) -> Script:
    async def script(call: Call) -> None:
        call.writer.write(raw)
        call.writer.close()

    return script


async def never_answers(call: Call) -> None:
    await call.reader.read()


async def resets(call: Call) -> None:
    call.reset()


async def _read(reader: asyncio.StreamReader, connection: int) -> Received | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    line, *rest = head.decode().rstrip("\r\n").split("\r\n")
    headers = [(name, value.strip()) for name, _, value in (each.partition(":") for each in rest)]
    length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
    return Received(line, headers, await reader.readexactly(length), connection)


@asynccontextmanager
async def receiving(
    script: Script, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[Receiver]:
    """Serve the script on a free port until the block ends."""
    receiver = Receiver(scheme="https" if tls else "http")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        receiver.connections += 1
        number = receiver.connections
        receiver.open_writers.add(writer)
        try:
            while not writer.is_closing() and (request := await _read(reader, number)) is not None:
                receiver.requests.append(request)
                await script(Call(request, reader, writer))
        except OSError:
            pass
        finally:
            receiver.open_writers.discard(writer)
            writer.close()

    server = await asyncio.start_server(serve, host, 0, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        for writer in list(receiver.open_writers):
            writer.transport.abort()
        await server.wait_closed()


def a_post(
    url: str, *, body: bytes = b"{}", headers: tuple[tuple[str, str], ...] = (), timeout_ms: int = 5000
) -> Request:
    return Request(url=url, headers=headers, body=body, timeout_ms=timeout_ms)


async def until(condition: Callable[[], object], *, within_s: float = 5) -> None:
    """Wait until the condition holds; raise TimeoutError when it does not in time."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - any condition, with a deadline
            await asyncio.sleep(0.002)
