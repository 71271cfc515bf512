"""The generator's connections: each has one request on its way at a time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from time import monotonic, monotonic_ns
from typing import cast

import httptools

from bench.plan import Load

_ANSWER_TIMEOUT_NS = 60 * 10**9
_LOOK_EVERY_S = 5.0
_CONNECT_FOR_S = 15.0
_BACK_OFF_S = 0.05


class Client(asyncio.Protocol):
    """One connection; `free` is told when it can take a request: once it is made, and after each answer."""

    __slots__ = ("_body", "_free", "_load", "_loop", "_numbers", "_parser", "_sent_ns", "_transport", "ended")

    def __init__(self, load: Load, free: Callable[[Client], None]) -> None:
        self._load = load
        self._free = free
        self._loop = asyncio.get_running_loop()
        self._numbers = range(0)
        self._sent_ns = 0
        self._body = b""
        self.ended: asyncio.Future[None] = self._loop.create_future()

    @property
    def is_open(self) -> bool:
        """Whether it can still carry a request."""
        return not self._transport.is_closing()

    def send(self, numbers: range) -> None:
        """Send these events in one request."""
        request = self._load.request(numbers)
        self._numbers, self._sent_ns = numbers, monotonic_ns()
        self._transport.write(request)

    def end(self) -> None:
        """Close the connection."""
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be free for the first request."""
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's are no subclass of it
        self._parser = httptools.HttpResponseParser(self)
        self._free(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count a request that is still open as refused, and tell that this client has ended."""
        if self._numbers:
            self._load.answered(self._numbers, sent_ns=self._sent_ns, status=0, body=b"")
        self.ended.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Hand the bytes to the parser; what is no HTTP ends the connection."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_message_begin(self) -> None:
        """Forget the last answer's body."""
        self._body = b""

    def on_body(self, body: bytes) -> None:
        """Keep this part of the answer's body."""
        self._body += body

    def on_message_complete(self) -> None:
        """Note the answer, and be free, after the pause of the plan or of a refusal."""
        numbers, self._numbers = self._numbers, range(0)
        status = self._parser.get_status_code()
        accepted = self._load.answered(numbers, sent_ns=self._sent_ns, status=status, body=self._body)
        gap_s = random.uniform(*self._load.plan.gap_s) if self._load.plan.gap_s else 0.0
        wait_s = gap_s if accepted else max(gap_s, _BACK_OFF_S)
        if wait_s:
            self._loop.call_later(wait_s, self._free, self)
        else:
            self._free(self)

    async def watch(self) -> None:
        """Wait for the connection's end, and bring it about when a request gets no answer for a minute."""
        while not self.ended.done():
            await asyncio.wait((self.ended,), timeout=_LOOK_EVERY_S)
            if self._numbers and monotonic_ns() - self._sent_ns > _ANSWER_TIMEOUT_NS:
                self._transport.abort()


async def connected(load: Load, free: Callable[[Client], None]) -> Client | None:
    """A new connection, tried for 15 s; None when the run is over before there is one."""
    loop, give_up_at = asyncio.get_running_loop(), monotonic() + _CONNECT_FOR_S
    while not load.over:
        try:
            _, client = await loop.create_connection(lambda: Client(load, free), load.plan.host, load.plan.port)
        except OSError:
            if monotonic() > give_up_at:
                raise
            load.statuses["no connection"] += 1
            await asyncio.sleep(_BACK_OFF_S)
        else:
            return client
    return None
