"""The load generator: keep-alive connections that send numbered events and remember when each was sent and answered.

It is its own process: a plan comes in on stdin (JSON), and out go one line of JSON and the packed columns of `Sent`.
An event is never sent a second time, so what arrives twice was doubled on the way.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections import Counter
from dataclasses import dataclass, field
from time import monotonic, monotonic_ns, process_time_ns
from typing import cast

import httptools
import uvloop

from bench.records import Sent, pack

_ANSWER_TIMEOUT_NS = 60 * 10**9
_LOOK_EVERY_S = 5.0
_CONNECT_FOR_S = 15.0
_BACK_OFF_S = 0.05


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send, where to, and for how long: any HTTP system can be described by it.

    Event n is `heads[n % len(heads)]`, the number, `tail`; a request is `opening`, `batch` events with commas between
    them, `closing`. `gap_s` is the range of the pause between an answer and the next request.
    """

    host: str
    port: int
    path: str
    heads: list[str]
    tail: str
    headers: dict[str, str] = field(default_factory=dict[str, str])
    opening: str = ""
    closing: str = ""
    batch: int = 1
    clients: int = 1
    first_n: int = 0
    seconds: float | None = None
    count: int | None = None
    gap_s: tuple[float, float] | None = None


class Load:
    """What the connections of one run share: the numbers still to send, and the records."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.sent = Sent()
        self.statuses: Counter[str] = Counter()
        self._ends_at = float("inf") if plan.seconds is None else monotonic() + plan.seconds
        self._next_n = plan.first_n
        self._last_n = sys.maxsize if plan.count is None else plan.first_n + plan.count
        lines = [f"POST {plan.path} HTTP/1.1", f"Host: {plan.host}:{plan.port}", "Content-Type: application/json"]
        lines += [f"{name}: {value}" for name, value in plan.headers.items()]
        self._before_length = "\r\n".join([*lines, "Content-Length: "]).encode()
        self._heads = [head.encode() for head in plan.heads]
        self._tail, self._opening, self._closing = plan.tail.encode(), plan.opening.encode(), plan.closing.encode()

    @property
    def over(self) -> bool:
        """Whether there is nothing more to send."""
        return self._next_n >= self._last_n or monotonic() >= self._ends_at

    def take(self) -> range:
        """The events of the next request; an empty range when the run is over."""
        if self.over:
            return range(0)
        first_n = self._next_n
        self._next_n = min(first_n + self.plan.batch, self._last_n)
        return range(first_n, self._next_n)

    def request(self, numbers: range) -> bytes:
        """The request that sends these events."""
        heads, tail, kinds = self._heads, self._tail, len(self._heads)
        events = b",".join([b"%b%d%b" % (heads[n % kinds], n, tail) for n in numbers])
        body = self._opening + events + self._closing
        return b"%b%d\r\n\r\n%b" % (self._before_length, len(body), body)

    def answered(self, numbers: range, *, sent_ns: int, status: int, body: bytes) -> bool:
        """Note the answer to a request (status 0: there was none); return whether all its events were accepted."""
        refused = _refused(body, numbers) if 200 <= status < 300 else set(numbers)
        size = len(numbers)
        self.sent.n.extend(numbers)
        self.sent.sent_ns.extend([sent_ns] * size)
        self.sent.answered_ns.extend([monotonic_ns()] * size)
        self.sent.accepted.extend([n not in refused for n in numbers] if refused else [1] * size)
        self.statuses[str(status) if status else "no answer"] += 1
        return not refused


def _refused(body: bytes, numbers: range) -> set[int]:
    """The events that a 2xx answer to a list holds an error for."""
    if b'"error"' not in body:
        return set()
    results = json.loads(body)["results"]
    return {n for n, result in zip(numbers, results, strict=True) if "error" in result}


class Client(asyncio.Protocol):
    """One connection in a closed loop: the next request follows the answer to the last."""

    __slots__ = ("_body", "_load", "_loop", "_numbers", "_parser", "_sent_ns", "_transport", "ended")

    def __init__(self, load: Load) -> None:
        self._load = load
        self._loop = asyncio.get_running_loop()
        self._numbers = range(0)
        self._sent_ns = 0
        self._body = b""
        self.ended: asyncio.Future[None] = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's are no subclass of it
        self._parser = httptools.HttpResponseParser(self)
        self._next()

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
        """Note the answer, and send the next request, after the pause of the plan or of a refusal."""
        numbers, self._numbers = self._numbers, range(0)
        status = self._parser.get_status_code()
        accepted = self._load.answered(numbers, sent_ns=self._sent_ns, status=status, body=self._body)
        gap_s = random.uniform(*self._load.plan.gap_s) if self._load.plan.gap_s else 0.0
        wait_s = gap_s if accepted else max(gap_s, _BACK_OFF_S)
        if wait_s:
            self._loop.call_later(wait_s, self._next)
        else:
            self._next()

    def hang_up_if_silent(self) -> None:
        """Give up on a request that got no answer for a minute."""
        if self._numbers and monotonic_ns() - self._sent_ns > _ANSWER_TIMEOUT_NS:
            self._transport.abort()

    def _next(self) -> None:
        numbers = range(0) if self._transport.is_closing() else self._load.take()
        if not numbers:
            self._transport.close()
            return
        request = self._load.request(numbers)
        self._numbers, self._sent_ns = numbers, monotonic_ns()
        self._transport.write(request)


async def generate(load: Load) -> None:
    """Send until the plan is through and every request is answered; connections that break are made anew."""
    await asyncio.gather(*(_send(load) for _ in range(load.plan.clients)))


async def _send(load: Load) -> None:
    loop = asyncio.get_running_loop()
    connected_at = monotonic()
    while not load.over:
        try:
            _, client = await loop.create_connection(lambda: Client(load), load.plan.host, load.plan.port)
        except OSError:
            if monotonic() - connected_at > _CONNECT_FOR_S:
                raise
            load.statuses["no connection"] += 1
            await asyncio.sleep(_BACK_OFF_S)
            continue
        connected_at = monotonic()
        while not client.ended.done():
            await asyncio.wait((client.ended,), timeout=_LOOK_EVERY_S)
            client.hang_up_if_silent()


def main() -> None:
    """Run the plan that stdin holds."""
    load = Load(Plan(**json.load(sys.stdin)))
    began_ns = process_time_ns()
    uvloop.run(generate(load))
    spent_s = (process_time_ns() - began_ns) / 1e9
    sent = load.sent
    head = {"cpu_s": spent_s, "statuses": load.statuses}
    with open(
        sys.stdout.fileno(), "wb", closefd=False
    ) as output:  # under PYTHONUNBUFFERED stdout may write a part only
        output.write(json.dumps(head).encode() + b"\n")
        output.write(pack(sent.n, sent.sent_ns, sent.answered_ns, sent.accepted))


if __name__ == "__main__":
    main()
