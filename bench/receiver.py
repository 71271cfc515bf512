"""The receiver: a web server that answers 200 to everything and remembers what came, at a few µs a request.

POST /e/NUMBER is an arrival at that endpoint; GET /count says how many there were, GET /records gives them all.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from time import monotonic_ns
from typing import cast

import httptools
import uvloop

from bench.records import Arrivals, pack

_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_NUMBER = re.compile(rb'"n":\s*(\d+)')
_ENDPOINT = re.compile(rb"/e/(\d+)$")
_BACKLOG = 4096


class Ledger:
    """What has come; the self-test has it swallow one in so many, as a receiver of a lossy system would see it."""

    def __init__(self, *, swallow: int = 0) -> None:
        self.arrivals = Arrivals()
        self._swallow = swallow
        self._came = 0

    def note(self, url: bytes, body: bytes) -> None:
        """Remember one request that just came in."""
        at_ns = monotonic_ns()
        self._came += 1
        if self._swallow and self._came % self._swallow == 0:
            return
        number, endpoint = _NUMBER.search(body), _ENDPOINT.search(url)
        self.arrivals.n.append(int(number[1]) if number else -1)
        self.arrivals.endpoint.append(int(endpoint[1]) if endpoint else 0)
        self.arrivals.at_ns.append(at_ns)

    def page(self, url: bytes) -> bytes:
        """The answer to a GET."""
        arrivals = self.arrivals
        if url == b"/records":
            return pack(arrivals.n, arrivals.endpoint, arrivals.at_ns)
        return str(len(arrivals.n)).encode()


class Connection(asyncio.Protocol):
    """One connection of a sender, kept alive as long as it likes."""

    __slots__ = ("_body", "_ledger", "_parser", "_transport", "_url")

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._url = self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's are no subclass of it
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_message_begin(self) -> None:
        self._url = self._body = b""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if self._parser.get_method() == b"GET":
            page = self._ledger.page(self._url)
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(page) + page)
            return
        self._transport.write(_OK)
        self._ledger.note(self._url, self._body)


async def serve(ledger: Ledger, *, host: str, port: int) -> None:
    """Receive until the process ends; the port is printed once it is open."""
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(ledger), host, port, backlog=_BACKLOG, reuse_address=True
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    """Run the receiver as its own process."""
    parser = argparse.ArgumentParser(prog="python -m bench.receiver", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=0, help="port to listen on (default: a free one)")
    parser.add_argument("--swallow", type=int, default=0, help="forget one request in so many (for the self-test)")
    options = parser.parse_args()
    try:
        uvloop.run(serve(Ledger(swallow=options.swallow), host=options.host, port=options.port))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
