"""What a run of the generator sends, request by request, and what became of each."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic, monotonic_ns

from bench.records import Sent


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send, where to, and for how long: any HTTP system can be described by it.

    Event n has its number between the two parts of `events[n % len(events)]`; a request is `opening`, `batch` events with
    commas between them, `closing`. `gap_s` is the range of the pause between an answer and the next request; with a
    `rate` that many requests leave in a second, whatever was answered.
    """

    host: str
    port: int
    path: str
    events: Sequence[tuple[str, str]]
    headers: dict[str, str] = field(default_factory=dict[str, str])
    opening: str = ""
    closing: str = ""
    batch: int = 1
    clients: int = 1
    first_n: int = 0
    seconds: float | None = None
    count: int | None = None
    gap_s: tuple[float, float] | None = None
    rate: float | None = None
    #: The statuses of an acceptance; none given: every 2xx. An answer with `refused_by` in it is a refusal all the same.
    accepted: Sequence[int] = ()
    refused_by: str = ""
    #: The members that lead to the answer's list of results, each of them one event's, with its `error`.
    results: Sequence[str] = ()


class Load:
    """What the connections of one run share: the numbers still to send, and the records."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.sent = Sent()
        self.statuses: Counter[str] = Counter()
        self._ends_at = float("inf") if plan.seconds is None else monotonic() + plan.seconds
        self._next_n = plan.first_n
        self._last_n = sys.maxsize if plan.count is None else plan.first_n + plan.count
        self._refused_by = plan.refused_by.encode()
        headers = {"Host": f"{plan.host}:{plan.port}", "Content-Type": "application/json", **plan.headers}
        lines = [f"POST {plan.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        self._before_length = "\r\n".join([*lines, "Content-Length: "]).encode()
        self._events = [(before.encode(), after.encode()) for before, after in plan.events]
        self._opening, self._closing = plan.opening.encode(), plan.closing.encode()

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
        events, kinds = self._events, len(self._events)
        listed = b",".join([str(n).encode().join(events[n % kinds]) for n in numbers])
        body = self._opening + listed + self._closing
        return b"%b%d\r\n\r\n%b" % (self._before_length, len(body), body)

    def answered(self, numbers: range, *, sent_ns: int, status: int, body: bytes) -> bool:
        """Note the answer to a request (status 0: there was none); return whether all its events were accepted."""
        refused = self._refused(numbers, status, body)
        size = len(numbers)
        self.sent.n.extend(numbers)
        self.sent.sent_ns.extend([sent_ns] * size)
        self.sent.answered_ns.extend([monotonic_ns()] * size)
        self.sent.accepted.extend([n not in refused for n in numbers] if refused else [1] * size)
        self.statuses[str(status) if status else "no answer"] += 1
        return not refused

    def _refused(self, numbers: range, status: int, body: bytes) -> set[int]:
        good = status in self.plan.accepted if self.plan.accepted else 200 <= status < 300
        if not good or (self._refused_by and self._refused_by in body):
            return set(numbers)
        if not self.plan.results or b'"error"' not in body:
            return set()
        results = json.loads(body)
        for member in self.plan.results:
            results = results[member]
        return {n for n, result in zip(numbers, results, strict=True) if result.get("error")}
