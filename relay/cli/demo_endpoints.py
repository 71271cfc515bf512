"""The endpoints of `relay demo`: how each behaves, and the servers behind them."""

from __future__ import annotations

import contextlib
import random
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from relay.receiver import Arrival, Receiver

_SLOW_S = 0.8
_FAILURES = 0.4


@dataclass(frozen=True, slots=True)
class Role:
    """One endpoint of the demo."""

    name: str
    url: str
    description: str
    types: tuple[str, ...]
    retries: dict[str, Any] = field(default_factory=dict)
    arrivals: list[Arrival] = field(default_factory=list[Arrival])

    def fields(self) -> dict[str, Any]:
        """Return the fields of CreateEndpointInput."""
        about = f"relay demo: {self.name}, {self.description}"
        return {"url": self.url, "description": about, "eventTypes": list(self.types), **self.retries}

    def retried(self) -> list[str]:
        """Return the ids of events that came more than once, the latest first."""
        return [a.headers["webhook-id"] for a in reversed(self.arrivals) if a.headers.get("webhook-attempt") != "1"]


@contextlib.contextmanager
def serve() -> Iterator[list[Role]]:
    """Serve the roles on loopback ports for the time of a block."""
    with contextlib.ExitStack() as stack:
        healthy, flaky, slow = (stack.enter_context(_served(reply)) for reply in (_always, _sometimes, _late))
        dead = stack.enter_context(_refusing())
        often = {"retrySchedule": [300, 600, 1200, 2400], "maxRetries": 8, "circuitThreshold": 1000}
        briefly = {"retrySchedule": [500, 1000], "maxRetries": 2, "circuitThreshold": 1000}
        yield [
            Role("healthy", healthy[0], "answers 200", ("demo.*",), arrivals=healthy[1]),
            Role(
                "flaky", flaky[0], f"answers 500 to {_FAILURES:.0%} of what comes", ("demo.order.*",), often, flaky[1]
            ),
            Role("slow", slow[0], f"answers after {_SLOW_S} s", ("demo.invoice.sent", "demo.user.joined"), {}, slow[1]),
            Role("dead", dead, "refuses every connection", ("demo.order.paid",), briefly),
        ]


@contextlib.contextmanager
def _served(reply: Callable[[Arrival], int]) -> Iterator[tuple[str, list[Arrival]]]:
    arrivals: list[Arrival] = []
    receiver = Receiver(reply=reply, seen=arrivals.append)
    receiver.start()
    with contextlib.closing(receiver):
        yield receiver.url, arrivals


@contextlib.contextmanager
def _refusing() -> Iterator[str]:
    """Lend the URL of a port that is taken and listens to nobody."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/"


def _always(_: Arrival) -> int:
    return 200


def _sometimes(_: Arrival) -> int:
    return 500 if random.random() < _FAILURES else 200


def _late(_: Arrival) -> int:
    time.sleep(_SLOW_S)
    return 200
