"""One event for thousands of endpoints: all get it, whoever sends it waits no longer, and the workers grow by little."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from bench.load import Bench, Measured, Run, Traffic
from relay.cli import own_endpoint
from relay.cli.api_client import Client

_THREADS = 4
_RATIO = 1.2
_GROWTH_MIB = 64.0
_CPU_US = 400.0


def fanout5000(bench: Bench) -> list[Measured]:
    """One event for one endpoint and one for 5 000 of them, by turns, each when all before it has arrived."""
    with _one_and_many(bench, bench.sizes.many) as (one, many):
        return [_by_turns(bench, "fanout5000", one, many)]


def fanout1000(bench: Bench) -> list[Measured]:
    """The same with 1 000 endpoints; and events for all of them in a row, as fast as they are worked off."""
    with _one_and_many(bench, bench.sizes.fan_out) as (one, many):
        turns = _by_turns(bench, "fanout1000", one, many)
        run = bench.run(many, count=bench.sizes.sustained)
    name = f"fanout1000: {bench.sizes.sustained} events in a row for {many.fan_out} endpoints"
    return [turns, Measured(name, run, at_most=(("cpu_us_per_delivery.total", _CPU_US),))]


@contextlib.contextmanager
def _one_and_many(bench: Bench, count: int) -> Iterator[tuple[Traffic, Traffic]]:
    """Lend one endpoint and so many others, and the traffic to the one and that to all the others."""
    numbers = bench.new_endpoints(count + 1)
    alone, others = numbers[0], numbers[1:]
    one, many = f"bench.one{alone}", f"bench.many{alone}"
    wanted = [{"url": bench.receiver.url(alone), "eventTypes": [one]}]
    wanted += [{"url": bench.receiver.url(number), "eventTypes": [many]} for number in others]
    with lent_at_once(bench.system.client(), wanted):
        yield Traffic([one], 1, lambda _: (alone,)), Traffic([many], count, lambda _: others)


def _by_turns(bench: Bench, scenario: str, one: Traffic, many: Traffic) -> Measured:
    warmed = [bench.run(traffic, count=1) for traffic in (one, many)]
    rounds = [(bench.run(one, count=1), bench.run(many, count=1)) for _ in range(bench.sizes.many_rounds)]
    one_ms, many_ms = (statistics.median(_accept_ms(pair[which]) for pair in rounds) for which in (0, 1))
    figures = {
        "accept_one_ms.p50": one_ms,
        "accept_many_ms.p50": many_ms,
        "accept_many_to_one.p50": many_ms / one_ms,
        "worker_growth_mib": _worker_mib(bench, rounds[-1][1]) - _worker_mib(bench, warmed[-1]),
    }
    limits = (("accept_many_to_one.p50", _RATIO), ("worker_growth_mib", _GROWTH_MIB))
    name = f"{scenario}: one event for {many.fan_out} endpoints, {len(rounds)} times"
    return Measured(name, rounds[-1][1], figures=figures, at_most=limits)


@contextlib.contextmanager
def lent_at_once(client: Client, wanted: Sequence[dict[str, Any]]) -> Iterator[None]:
    """Lend many endpoints for the time of a block, made and taken away by several threads."""
    with ThreadPoolExecutor(_THREADS) as threads:
        made = list(threads.map(partial(own_endpoint.create, client), wanted))
        try:
            yield
        finally:
            list(threads.map(lambda one: own_endpoint.delete(client, one.id), made))


def _accept_ms(run: Run) -> float:
    sent = run.made.sent
    return (sent.answered_ns[0] - sent.sent_ns[0]) / 1e6


def _worker_mib(bench: Bench, after: Run) -> float:
    """What the workers held at the end of a run; 0 of a system that somebody else started."""
    return bench.used[after].memory_end.get("worker", 0.0)
