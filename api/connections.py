"""The connection of a request that goes on: ended at once, and what is to happen when it is over.

An ASGI server offers no way to give up a connection whose client takes nothing: uvicorn waits for it for ever. Its
transport is found by what `send` is bound to; where there is none, as in tests without a server, nothing is cut.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import falcon.asgi
from falcon.asgi import Request, Response

_KEY = "relay.connection"
_SEND_BUFFER = 64 * 1024
_STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


class Connection:
    """The connection of one request."""

    def __init__(self, send: object) -> None:
        self._transport: Any = getattr(getattr(send, "__self__", None), "transport", None)
        self.on_end: Callable[[], None] = lambda: None

    def keep_small(self) -> None:
        """Have the kernel hold little of what the client has not taken yet, so that falling behind is seen."""
        self._set(socket.SO_SNDBUF, _SEND_BUFFER)

    def cut(self) -> None:
        """Give the connection up at once, with all that it still has to send."""
        if self._transport is not None:
            self._set(socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()

    def _set(self, option: int, value: int | bytes) -> None:
        raw = self._transport.get_extra_info("socket") if self._transport is not None else None
        if raw is not None:
            with suppress(OSError):
                raw.setsockopt(socket.SOL_SOCKET, option, value)


def connection_of(req: Request) -> Connection:
    """The connection that a request came on."""
    return req.scope[_KEY]


class App(falcon.asgi.App[Request, Response]):
    """Falcon's application, which knows the connection of each request and when a request is over."""

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer one request."""
        scope[_KEY] = connection = Connection(send)
        try:
            await super().__call__(scope, receive, send)
        finally:
            connection.on_end()


def hear_of_stop(do: Callable[[], None]) -> Callable[[], None]:
    """Do this on the event loop as soon as the server is told to stop; return how to undo that.

    A server waits for open requests before it tells the application, and some of them never end by themselves. Only
    handlers that a server has set are heard: a method of its own.
    """
    loop = asyncio.get_running_loop()
    heard = {number: handler for number in _STOPS if hasattr(handler := signal.getsignal(number), "__self__")}

    def hear(number: int, frame: Any) -> None:
        loop.call_soon_threadsafe(do)
        heard[signal.Signals(number)](number, frame)  # pyright: ignore[reportCallIssue, reportOptionalCall]

    def undo() -> None:
        for number, handler in heard.items():
            if signal.getsignal(number) is hear:
                signal.signal(number, handler)

    for number in heard:
        signal.signal(number, hear)
    return undo
