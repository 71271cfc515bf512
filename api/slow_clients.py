"""HTTP as uvicorn reads it, from clients that must send their requests in reasonable time and size.

uvicorn alone waits for the headers of a request for ever, and keeps as many as come.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEADER_BYTES = 64 * 1024
#: A body that arrives after its request was answered is read for so long, so that the client reads the answer.
_BODY_S = 5.0
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class PatientHttp(HttpToolsProtocol):
    """A connection that is closed when a request's headers take longer than 10 s, or are over 64 KiB.

    `body_s` is how long the whole body may take; the application has answered 408 a little earlier.
    """

    headers_s = 10.0
    body_s = 30.0 + _BODY_S
    _timer: asyncio.TimerHandle | None = None
    _header_bytes: int | None = 0

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Expect the first request."""
        super().connection_made(transport)
        self._close_in(self.headers_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Expect nothing more."""
        self._expect_nothing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, unless these headers are too long already."""
        super().data_received(data)
        if self._header_bytes is None or self.transport.is_closing():
            return
        self._header_bytes += len(data)
        if self._header_bytes > MAX_HEADER_BYTES:
            self.transport.write(_TOO_LARGE)
            self.transport.close()

    def on_message_begin(self) -> None:
        """Expect the headers."""
        super().on_message_begin()
        self._header_bytes = 0
        self._close_in(self.headers_s)

    def on_headers_complete(self) -> None:
        """Expect the body."""
        self._header_bytes = None
        self._close_in(self.body_s)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Expect no more of this request; between requests uvicorn's own timeout counts."""
        self._expect_nothing()
        super().on_message_complete()

    def _close_in(self, seconds: float) -> None:
        self._expect_nothing()
        self._timer = self.loop.call_later(seconds, self.transport.close)

    def _expect_nothing(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def patient_http(request_timeout_s: float) -> type[PatientHttp]:
    """The protocol for these settings; a server is given a class."""
    return type("PatientHttp", (PatientHttp,), {"body_s": request_timeout_s + _BODY_S})
