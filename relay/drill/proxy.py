"""A TCP proxy on loopback that breaks connections on purpose: it cuts them, refuses new ones, and delays what they carry."""

from __future__ import annotations

import asyncio
import contextlib

_CHUNK = 64 * 1024


class Proxy:
    """Passes connections on to a port of this machine; `delay_s` is added to each chunk, each way."""

    def __init__(self, port: int) -> None:
        """`port` is where the real server listens."""
        self.delay_s = 0.0
        self._to = port
        self._severed = False
        self._open: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        """Listen; return the port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """End every connection at once, and let none through until `mend`."""
        self._severed = True
        for writer in self._open:
            writer.transport.abort()

    def mend(self) -> None:
        """Let connections through again."""
        self._severed = False

    async def close(self) -> None:
        """Listen no more; return when the last connection has ended."""
        if self._server is not None:
            self._server.close()
            self.cut()
            await asyncio.gather(*self._serving)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._severed:
            writer.transport.abort()
            return
        try:
            there, onward = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, onward}
        with contextlib.suppress(OSError):
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass(reader, onward))
                both.create_task(self._pass(there, writer))
        self._open -= {writer, onward}

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while chunk := await source.read(_CHUNK):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                target.write(chunk)
                await target.drain()
        except OSError:
            pass
        finally:
            target.close()
