"""What a transformation costs: the same traffic, in turns, to an endpoint that has one and to one that has none."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterator

from bench.load import Bench, Measured, Traffic
from relay.cli import own_endpoint

_BATCH = 100
_MOST_US = 450.0
_CODE = "function transform(webhook) { webhook.payload.seen = true; return webhook }"


def transform(bench: Bench) -> list[Measured]:
    """CPU per transformed delivery, less that of one that is not: the median of pairs of rounds, each in turn the first."""
    rounds: list[tuple[dict[str, float], dict[str, float]]] = []
    with _lent(bench) as plain, _lent(bench, transformation=_CODE) as transformed:
        for traffic in (plain, transformed):
            _cpu_us(bench, traffic)
        for number in range(bench.sizes.pairs):
            first, second = (plain, transformed) if number % 2 else (transformed, plain)
            found = {id(traffic): _cpu_us(bench, traffic) for traffic in (first, second)}
            rounds.append((found[id(plain)], found[id(transformed)]))
    more = [sum(with_it.values()) - sum(without.values()) for without, with_it in rounds]
    figures = {
        "more_cpu_us_per_delivery.median": statistics.median(more),
        "more_cpu_us_per_delivery.min": min(more),
        "more_cpu_us_per_delivery.max": max(more),
        "more_cpu_us_per_delivery.worker": statistics.median(
            with_it.get("worker", 0.0) - without.get("worker", 0.0) for without, with_it in rounds
        ),
    }
    name = f"transform: with against without, {len(more)} pairs of rounds of {bench.sizes.per_round} deliveries"
    return [Measured(name, None, figures=figures, at_most=(("more_cpu_us_per_delivery.median", _MOST_US),))]


@contextlib.contextmanager
def _lent(bench: Bench, **fields: str) -> Iterator[Traffic]:
    number = bench.new_endpoints(1)[0]
    type_ = f"bench.transform{number}"
    wanted = {"url": bench.receiver.url(number), "eventTypes": [type_], **fields}
    with own_endpoint.lent(bench.system.client(), wanted):
        yield Traffic(types=[type_], fan_out=1, endpoints_of=lambda _: (number,), batch=_BATCH)


def _cpu_us(bench: Bench, traffic: Traffic) -> dict[str, float]:
    cpu_s = bench.run(traffic, count=bench.sizes.per_round).cpu_s
    return {name: seconds * 1e6 / bench.sizes.per_round for name, seconds in cpu_s.items()}
