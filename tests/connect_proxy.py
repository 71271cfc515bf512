"""A proxy that knows CONNECT: it keeps what it was asked for, and dials where the test says, whatever address that was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\nX-Of-The-Proxy: 1\r\n\r\n"


@dataclass(slots=True)
class Asked:
    """One request to the proxy: its first line and its headers."""

    line: str
    headers: dict[str, str]

    @property
    def target(self) -> str:
        return self.line.split(" ")[1]


@dataclass(slots=True)
class ConnectProxy:
    answer: bytes = ESTABLISHED
    port: int = 0
    asked: list[Asked] = field(default_factory=list[Asked])
    connections: int = 0

    def url(self, login: str = "", host: str = "127.0.0.1") -> str:
        return f"http://{login}{host}:{self.port}"


Dial = Callable[[str], tuple[str, int]]


@asynccontextmanager
async def proxying(dial: Dial, *, answer: bytes = ESTABLISHED) -> AsyncIterator[ConnectProxy]:
    """Serve until the block ends; with another answer than the usual one nothing is dialled, with none at all it waits."""
    proxy = ConnectProxy(answer)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        proxy.connections += 1
        try:
            asked = await _asked(reader)
            proxy.asked.append(asked)
            writer.write(proxy.answer)
            if proxy.answer is ESTABLISHED:
                await _pipe_both(reader, writer, dial(asked.target))
            elif not proxy.answer:
                await reader.read()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


async def _asked(reader: asyncio.StreamReader) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip("\r\n").split("\r\n")
    return Asked(
        head[0], {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
    )


async def _pipe_both(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, where: tuple[str, int]) -> None:
    far_reader, far_writer = await asyncio.open_connection(*where)
    try:
        await asyncio.gather(_pipe(reader, far_writer), _pipe(far_reader, writer))
    finally:
        far_writer.close()


async def _pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while chunk := await source.read(65_536):
            sink.write(chunk)
            await sink.drain()
    with suppress(OSError, RuntimeError):
        sink.close()
