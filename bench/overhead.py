"""What the metrics cost: the same traffic, in turns, through the system under test and one beside it that has none."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from bench.load import Bench, Measured, Traffic
from bench.system import System, started
from relay.cli import own_endpoint

_BATCH = 100
_MOST = 1.03


@dataclass(frozen=True, slots=True)
class _Side:
    system: System
    traffic: Traffic


def metrics(bench: Bench) -> list[Measured]:
    """CPU per delivery with metrics to CPU per delivery without: the median of pairs of rounds, each in turn the first."""
    with_them, ratios = bench.system, list[float]()
    with started(METRICS_PROVIDER="") as without, _side(bench, with_them) as on, _side(bench, without) as off:
        try:
            for side in (on, off):
                _cpu_s(bench, side)
            for number in range(bench.sizes.pairs):
                first, second = (on, off) if number % 2 else (off, on)
                spent = {id(side): _cpu_s(bench, side) for side in (first, second)}
                ratios.append(spent[id(on)] / spent[id(off)])
        finally:
            bench.system = with_them
    figures = {
        "on_to_off.median": statistics.median(ratios),
        "on_to_off.min": min(ratios),
        "on_to_off.max": max(ratios),
    }
    name = f"metrics: on against off, {len(ratios)} pairs of rounds of {bench.sizes.per_round} deliveries"
    return [Measured(name, None, figures=figures, at_most=(("on_to_off.median", _MOST),))]


@contextlib.contextmanager
def _side(bench: Bench, system: System) -> Iterator[_Side]:
    number = bench.new_endpoints(1)[0]
    type_ = f"bench.overhead{number}"
    with own_endpoint.lent(system.client(), {"url": bench.receiver.url(number), "eventTypes": [type_]}):
        yield _Side(system, Traffic(types=[type_], fan_out=1, endpoints_of=lambda _: (number,), batch=_BATCH))


def _cpu_s(bench: Bench, side: _Side) -> float:
    bench.system = side.system
    return sum(bench.run(side.traffic, count=bench.sizes.per_round).cpu_s.values())
