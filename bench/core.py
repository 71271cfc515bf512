"""The scenarios of the delivery core: neighbours of a bad endpoint, order, rate limits, priorities, backlogs, many clients."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from bench.accounting import account, percentile
from bench.cpu import by_group
from bench.load import Bench, Measured, Run, Traffic
from bench.rounds import rounds_ms
from bench.windows import densest, per_s, sparsest
from relay.cli import own_endpoint

_BATCH = 100
_HEALTHY = 20
_CLIENTS = 8
_GAP_S = (0.01, 0.05)
_URGENT_GAP_S = (0.05, 0.15)
_LANES = 20
_RTT_MS = 20
_RATE = 50
_TIERS = (1, 5, 10)
_HELD_MS = 120_000


def blackhole(bench: Bench) -> list[Measured]:
    """Healthy endpoints alone, and beside one that never answers and one that takes 2 s, each with a thousand waiting."""
    with _lent(bench, _HEALTHY) as lent:
        healthy = replace(lent, batch=1)
        bench.run(healthy, seconds=bench.sizes.warm_up_s, clients=_CLIENTS)
        rounds = [_beside_trouble(bench, healthy) for _ in range(bench.sizes.rounds)]
    alone_ms, beside_ms = ([_p99_ms(bench, pair[which]) for pair in rounds] for which in (0, 1))
    ratios = [beside / alone for alone, beside in zip(alone_ms, beside_ms, strict=True)]
    figures = {
        "p99_alone_ms": statistics.median(alone_ms),
        "p99_beside_ms": statistics.median(beside_ms),
        "p99_ratio.worst": max(ratios),
        "p99_ratio.median": statistics.median(ratios),
    }
    name = f"blackhole: {_HEALTHY} healthy endpoints beside two bad ones, median of {len(rounds)}"
    return [Measured(name, rounds[-1][1], figures=figures, at_most=(("p99_ratio.median", 2.0),))]


def fifo(bench: Bench) -> list[Measured]:
    """Twenty endpoints that want order, each a lane with all its deliveries waiting, and a receiver that answers after 20 ms.

    Measured from the first answer on: what accepting and fanning out the events takes meanwhile is no lane's pace.
    """
    with _held(bench, _LANES, "lanes", script=f"after_ms={_RTT_MS}", fifo=True) as traffic:
        # One connection: the order of the numbers is that of acceptance.
        run = bench.send(traffic, count=_LANES * bench.sizes.lane_events, clients=1)
        bench.wait_for_fan_out()
        bench.receiver.release("lanes")
        bench.drain()
    lanes = [_arrived(bench, run, only=range(first, first + 1)) for first in _endpoints_of(traffic)]
    shares = sorted(per_s([at for at, _, _ in lane[1:]]) * _RTT_MS / 1000 for lane in lanes)
    figures = {
        "of_one_per_rtt.min": shares[0],
        "of_one_per_rtt.p50": percentile(shares, 0.5),
    }
    name = f"fifo: {_LANES} lanes of {bench.sizes.lane_events}, RTT {_RTT_MS} ms"
    limits = (("order_breaks", 0.0),)
    return [Measured(name, run, figures=figures, at_least=(("of_one_per_rtt.min", 0.7),), at_most=limits)]


def ratelimit(bench: Bench) -> list[Measured]:
    """One endpoint that takes 50 a second, and a backlog of many times that."""
    with _lent(bench, 1, rateLimitPerSec=_RATE) as traffic:
        run = bench.send(traffic, count=bench.sizes.rate_limited)
        bench.wait_for_fan_out()
        drained = bench.drain()
    times = [at for at, _, _ in _arrived(bench, run)]
    figures = {
        "in_10_s.min": float(sparsest(times, window_s=10)),
        "in_10_s.max": float(densest(times, window_s=10)),
        "in_1_s.max": float(densest(times, window_s=1)),
        **by_group("cpu_percent", drained.cpu_s, unit=drained.seconds / 100),
    }
    limits = (("in_10_s.max", 525.0), ("in_1_s.max", 60.0), ("cpu_percent.total", 10.0))
    name = f"ratelimit: {_RATE} a second of a backlog of {bench.sizes.rate_limited}"
    return [Measured(name, run, figures=figures, at_least=(("in_10_s.min", 475.0),), at_most=limits)]


def priority(bench: Bench) -> list[Measured]:
    """What comes first behind a backlog of normal deliveries, and what is left for low while high has work."""
    return [_urgent(bench), _low_beside_high(bench)]


def tenants(bench: Bench) -> list[Measured]:
    """A round of the clock while ten thousand clients have work: what it costs to be fair."""
    count, where = bench.sizes.tenants, bench.system.database_url
    taken = sorted(rounds_ms(where, tenants=count)) if where else []
    shares = {"p50": 0.5, "p95": 0.95, "max": 1.0}
    figures = {f"round_ms.{label}": percentile(taken, share) for label, share in shares.items() if taken}
    name = f"tenants: rounds of the clock, {count} clients with work"
    return [Measured(name, None, figures=figures, at_most=(("round_ms.p50", 8.0),))]


def _beside_trouble(bench: Bench, healthy: Traffic) -> tuple[Run, Run]:
    alone = _steady(bench, healthy)
    with (
        _lent(bench, 1, aside=True, script="never", timeoutMs=30_000) as hole,
        _lent(bench, 1, aside=True, script="after_ms=2000", timeoutMs=30_000) as slow,
    ):
        for trouble in (hole, slow):
            bench.send(trouble, count=bench.sizes.trouble)
        bench.wait_for_fan_out()
        return alone, _steady(bench, healthy)


def _steady(bench: Bench, traffic: Traffic) -> Run:
    return bench.run(traffic, seconds=bench.sizes.beside_s, clients=_CLIENTS, gap_s=_GAP_S)


def _urgent(bench: Bench) -> Measured:
    with _held(bench, _HEALTHY, "urgent", script="after_ms=100", maxConcurrency=5) as traffic:
        waiting = bench.send(traffic, count=bench.sizes.backlog)
        bench.wait_for_fan_out()
        bench.receiver.release("urgent")
        urgent = replace(traffic, batch=1, priorities=(1,))
        run = bench.send(urgent, seconds=bench.sizes.seconds, clients=_CLIENTS, gap_s=_URGENT_GAP_S)
        bench.drain()
    left = sum(at > max(run.made.sent.answered_ns) for at, _, _ in _arrived(bench, waiting))
    name = f"priority: 1 behind {bench.sizes.backlog} normal deliveries of the same {_HEALTHY} endpoints"
    figures = {"backlog_left": float(left)}
    return Measured(name, run, figures=figures, at_most=(("accept_to_receive_ms.p99", 1_000.0),))


def _low_beside_high(bench: Bench) -> Measured:
    with _held(bench, _HEALTHY, "tiers", script="after_ms=100", maxConcurrency=5) as traffic:
        run = bench.send(replace(traffic, priorities=_TIERS), count=bench.sizes.backlog // 2)
        bench.wait_for_fan_out()
        bench.receiver.release("tiers")
        bench.drain()
    tiers = [n % len(_TIERS) for _, n, _ in _arrived(bench, run)]
    saturated = tiers[: _position_of(tiers, 0, share=0.8)]
    name = f"priority: {bench.sizes.backlog // 2} deliveries of three tiers, while high has work"
    shares = {
        f"share_percent.{tier}": 100 * saturated.count(index) / len(saturated)
        for index, tier in enumerate(("high", "normal", "low"))
    }
    return Measured(name, run, figures=shares, at_least=(("share_percent.low", 10.0),))


def _position_of(tiers: Sequence[int], tier: int, *, share: float) -> int:
    """Where this share of a tier has come."""
    places = [place for place, one in enumerate(tiers) if one == tier]
    return places[int(share * (len(places) - 1))] + 1


def _p99_ms(bench: Bench, run: Run) -> float:
    counted = account(run.made.sent, bench.receiver.arrivals(), run.traffic.endpoints_of)
    return percentile(counted.since_accept_ms, 0.99)


def _arrived(bench: Bench, run: Run, *, only: range | None = None) -> list[tuple[int, int, int]]:
    """Time, number and endpoint of what arrived of a run, in order of time."""
    sent, arrivals = set(run.made.sent.n), bench.receiver.arrivals()
    rows = zip(arrivals.at_ns, arrivals.n, arrivals.endpoint, strict=True)
    return sorted(row for row in rows if row[1] in sent and (only is None or row[2] in only))


def _endpoints_of(traffic: Traffic) -> list[int]:
    return sorted({endpoint for n in range(len(traffic.types)) for endpoint in traffic.endpoints_of(n)})


@contextlib.contextmanager
def _held(bench: Bench, count: int, name: str, *, script: str = "", **fields: Any) -> Iterator[Traffic]:
    """Lend endpoints that answer nobody until this name is released."""
    with _lent(bench, count, script=f"held={name}&{script}", timeoutMs=_HELD_MS, **fields) as traffic:
        yield traffic


@contextlib.contextmanager
def _lent(bench: Bench, count: int, *, script: str = "", aside: bool = False, **fields: Any) -> Iterator[Traffic]:
    """Lend endpoints that answer as the script says, and the traffic that reaches each in turn; nobody waits for `aside`."""
    numbers, client = bench.new_endpoints(count), bench.system.client()
    url = bench.receiver.url_aside if aside else bench.receiver.url
    with contextlib.ExitStack() as stack:
        for number in numbers:
            where = {"url": f"{url(number)}?{script}", "eventTypes": [f"bench.core{number}"]}
            stack.enter_context(own_endpoint.lent(client, {**where, **fields}))
        yield Traffic(
            types=[f"bench.core{number}" for number in numbers],
            fan_out=0 if aside else 1,
            endpoints_of=(lambda _: ()) if aside else (lambda n: (numbers[n % count],)),
            batch=_BATCH,
            ordered=bool(fields.get("fifo")),
        )
