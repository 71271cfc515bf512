"""What the metrics cost: the same traffic, in turns, through two systems that differ in nothing else."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from bench.cpu import SERVING
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
    under_test, rounds = bench.system, list[dict[int, dict[str, float]]]()
    with _side(bench, "prometheus") as on, _side(bench, "") as off:
        try:
            for side in (on, off):
                _cpu_s(bench, side)
            for number in range(bench.sizes.pairs):
                first, second = (on, off) if number % 2 else (off, on)
                rounds.append({id(side): _cpu_s(bench, side) for side in (first, second)})
            ratios = [sum(one[id(on)].values()) / sum(one[id(off)].values()) for one in rounds]
            groups = _by_group([one[id(on)] for one in rounds], [one[id(off)] for one in rounds])
        finally:
            bench.system = under_test
    figures = {
        "on_to_off.median": statistics.median(ratios),
        "on_to_off.min": min(ratios),
        "on_to_off.max": max(ratios),
    }
    figures |= groups
    name = f"metrics: on against off, {len(ratios)} pairs of rounds of {bench.sizes.per_round} deliveries"
    return [Measured(name, None, figures=figures, at_most=(("on_to_off.median", _MOST),))]


@contextlib.contextmanager
def _side(bench: Bench, provider: str) -> Iterator[_Side]:
    number = bench.new_endpoints(1)[0]
    type_ = f"bench.overhead{number}"
    wanted = {"url": bench.receiver.url(number), "eventTypes": [type_]}
    with started(METRICS_PROVIDER=provider) as system, own_endpoint.lent(system.client(), wanted):
        yield _Side(system, Traffic(types=[type_], fan_out=1, endpoints_of=lambda _: (number,), batch=_BATCH))


def _cpu_s(bench: Bench, side: _Side) -> dict[str, float]:
    bench.system = side.system
    return bench.run(side.traffic, count=bench.sizes.per_round).cpu_s


def _by_group(on: list[dict[str, float]], off: list[dict[str, float]]) -> dict[str, float]:
    """All rounds together, for each process group that uses a worthwhile part of the whole."""
    totals = {name: (sum(one[name] for one in on), sum(one[name] for one in off)) for name in SERVING}
    return {
        f"on_to_off.{name}": with_them / without for name, (with_them, without) in sorted(totals.items()) if without
    }
