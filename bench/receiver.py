"""The receiver: a web server that remembers what came, and answers 200 or as the URL says, at a few µs a request.

POST /e/NUMBER is an arrival at that endpoint, unless its query asks for another status than 2xx; POST /aside/NUMBER is
none. Queries: after_ms=N, never, status=N, retry_after_s=N, held=NAME (not before GET /release/NAME), failing=NAME (500,
and no arrival, between GET /fail/NAME and GET /heal/NAME; GET /refused/NAME says how many). GET /count says how many
arrivals there were, GET /records gives them all.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from time import monotonic_ns
from typing import cast
from urllib.parse import parse_qs, urlsplit

import httptools
import uvloop

from bench.records import Arrivals, pack

_NUMBER = re.compile(rb'"n\\*":\s*(\d+)')  # the backslashes: a body in a string of another body
_ENDPOINT = re.compile(r"/e/(\d+)$")
_BACKLOG = 4096
_REFUSAL = b"HTTP/1.1 500 As told\r\nContent-Length: 0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Script:
    """How requests to one URL are answered, and the endpoint they are arrivals at (None: they are none)."""

    endpoint: int | None
    answer: bytes
    after_s: float = 0.0
    never: bool = False
    held: str = ""
    failing: str = ""


@lru_cache(maxsize=100_000)
def script(url: bytes) -> Script:
    """Read what the URL asks for."""
    parts = urlsplit(url.decode())
    asked = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    status, never = int(asked.get("status", 200)), "never" in asked
    endpoint = _ENDPOINT.search(parts.path) if 200 <= status < 300 and not never else None
    retry_after = f"Retry-After: {asked['retry_after_s']}\r\n" if "retry_after_s" in asked else ""
    return Script(
        endpoint=int(endpoint[1]) if endpoint else None,
        answer=f"HTTP/1.1 {status} As told\r\n{retry_after}Content-Length: 0\r\n\r\n".encode(),
        after_s=float(asked.get("after_ms", 0)) / 1000,
        never=never,
        held=asked.get("held", ""),
        failing=asked.get("failing", ""),
    )


def number_in(body: bytes) -> int:
    """The number of the event that a body holds, however it is wrapped; -1 where there is none."""
    number = _NUMBER.search(body)
    return int(number[1]) if number else -1


class Ledger:
    """What has come; the self-test has it swallow one in so many, and swap one with the last, as seen behind a bad system."""

    def __init__(self, *, swallow: int = 0, swap: int = 0) -> None:
        self.arrivals = Arrivals()
        self._swallow, self._swap = swallow, swap
        self._came = 0
        self._released: set[str] = set()
        self._failing: set[str] = set()
        self._refused: Counter[str] = Counter()
        self._held: defaultdict[str, list[Callable[[], object]]] = defaultdict(list)

    def note(self, endpoint: int, body: bytes) -> None:
        """Remember one request that just came in."""
        at_ns = monotonic_ns()
        self._came += 1
        if self._swallow and self._came % self._swallow == 0:
            return
        self.arrivals.n.append(number_in(body))
        self.arrivals.endpoint.append(endpoint)
        self.arrivals.at_ns.append(at_ns)
        if self._came == self._swap:
            numbers = self.arrivals.n
            numbers[-1], numbers[-2] = numbers[-2], numbers[-1]

    def page(self, url: bytes) -> bytes:
        """The answer to a GET."""
        arrivals = self.arrivals
        count = len(arrivals.n)
        match url.decode().split("/")[1:]:
            case ["records"]:
                return pack(arrivals.n, arrivals.endpoint, arrivals.at_ns)
            case ["release", name]:
                self._release(name)
            case ["fail", name]:
                self._failing.add(name)
            case ["heal", name]:
                self._failing.discard(name)
            case ["refused", name]:
                count = self._refused[name]
            case _:
                pass
        return str(count).encode()

    def refuses(self, name: str) -> bool:
        """Count a refusal under this name if it is failing now; return whether it is."""
        if name not in self._failing:
            return False
        self._refused[name] += 1
        return True

    def hold(self, name: str, answer: Callable[[], object]) -> None:
        """Answer once this name is released."""
        if name in self._released:
            answer()
        else:
            self._held[name].append(answer)

    def _release(self, name: str) -> None:
        self._released.add(name)
        for answer in self._held.pop(name, []):
            answer()


class Connection(asyncio.Protocol):
    """One connection of a sender, kept alive as long as it likes."""

    __slots__ = ("_body", "_ledger", "_parser", "_transport", "_url")

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._url = self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Get ready to read requests."""
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's are no subclass of it
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        """Hand the bytes to the parser; what is no HTTP ends the connection."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_message_begin(self) -> None:
        """Forget the last request."""
        self._url = self._body = b""

    def on_url(self, url: bytes) -> None:
        """Keep this part of the request's URL."""
        self._url += url

    def on_body(self, body: bytes) -> None:
        """Keep this part of the request's body."""
        self._body += body

    def on_message_complete(self) -> None:
        """Note the arrival and answer as the URL says; a GET gets one of the ledger's pages."""
        if self._parser.get_method() == b"GET":
            page = self._ledger.page(self._url)
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(page) + page)
            return
        told = script(self._url)
        if told.failing and self._ledger.refuses(told.failing):
            self._transport.write(_REFUSAL)
            return
        if told.endpoint is not None:
            self._ledger.note(told.endpoint, self._body)
        if told.held:
            self._ledger.hold(told.held, lambda: self._answer(told))
        else:
            self._answer(told)

    def _answer(self, told: Script) -> None:
        if told.after_s:
            asyncio.get_running_loop().call_later(told.after_s, self._write, told.answer)
        elif not told.never:
            self._write(told.answer)

    def _write(self, answer: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)


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
    parser.add_argument("--swap", type=int, default=0, help="swap the arrival of this number with the last (as above)")
    options = parser.parse_args()
    ledger = Ledger(swallow=options.swallow, swap=options.swap)
    try:
        uvloop.run(serve(ledger, host=options.host, port=options.port))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
