"""The proxy that breaks connections: it passes bytes on, cuts, refuses and delays."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from relay.drill.proxy import Proxy


@pytest.fixture
async def echo() -> AsyncIterator[int]:
    """The port of a server that sends back what it gets."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(1000):
            writer.write(chunk)
        await gone(writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


async def gone(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


async def ask(port: int, words: bytes) -> bytes:
    """What comes back, or nothing."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(words)
        return await reader.read(1000)
    except ConnectionError:
        return b""
    finally:
        await gone(writer)


async def test_what_is_cut_is_cut_until_it_is_mended(echo: int) -> None:
    proxy = Proxy(echo)
    port = await proxy.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"one")
    assert await reader.read(1000) == b"one"
    proxy.cut()
    assert await reader.read() == b""
    await gone(writer)
    assert await ask(port, b"two") == b""
    proxy.mend()
    assert await ask(port, b"three") == b"three"
    await proxy.close()


async def test_a_delay_is_added_each_way(echo: int) -> None:
    proxy = Proxy(echo)
    port = await proxy.start()
    proxy.delay_s = 0.1
    began = time.monotonic()
    assert await ask(port, b"one") == b"one"
    assert time.monotonic() - began >= 0.2
    await proxy.close()
