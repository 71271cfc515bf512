"""All endpoints fail for a minute and come back: nothing is lost, nobody is overrun, and the healthy notice nothing."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.accounting import account, percentile
from bench.fanout import lent_at_once
from bench.load import Bench, Measured, Run, Traffic
from bench.records import Arrivals
from bench.windows import densest

_NAME = "storm"
_HEALTHY = 8
#: Of every so many events one goes to a healthy endpoint.
_TURN = 5
_CLIENTS = 8
_GAP_S = (0.005, 0.015)
_RATE = 20
#: Endpoints without a limit answer after this time: what comes within it is under way at once. Timers may be 1 ms early.
_RTT_MS = 20
_AT_ONCE_S = (_RTT_MS - 2) / 1000
#: How many requests at once an endpoint gets from a process: at most, and at first.
_WIDTH, _FIRST_WIDTH = 20, 2
#: Longer than the delay before the fourth retry.
_PATIENCE_S = 180.0
_LIMITS = (
    ("lost", 0.0),
    ("calm_after_s", 60.0),
    ("attempts_per_delivery", 1.5),
    ("limited_to_rate_in_1_s.max", 1.25),
    ("limited_to_rate_in_10_s.max", 1.05),
    ("others_at_once_to_width.max", 1.0),
    ("others_at_once_at_first_to_width.max", 1.0),
    ("healthy_p99_ratio", 2.0),
)


@dataclass(frozen=True, slots=True)
class _Phases:
    """The same traffic while all is well, while most endpoints fail, and after they are well again."""

    before: Run
    during: Run
    after: Run
    healed_ns: int


def retry_storm(bench: Bench) -> list[Measured]:
    """Endpoints fail together and recover together while events go on coming: half of them with a limit, half without."""
    numbers = bench.new_endpoints(bench.sizes.storm_endpoints + _HEALTHY)
    healthy, limited, others = numbers[:_HEALTHY], numbers[_HEALTHY::2], numbers[_HEALTHY + 1 :: 2]
    wanted = [_wanted(bench, number, "") for number in healthy]
    failing = {"retrySchedule": list(bench.sizes.storm_schedule_ms), "circuitResetMs": bench.sizes.storm_reset_ms}
    wanted += [_wanted(bench, n, f"?failing={_NAME}", **failing, rateLimitPerSec=_RATE) for n in limited]
    wanted += [_wanted(bench, n, f"?failing={_NAME}&after_ms={_RTT_MS}", **failing) for n in others]
    with lent_at_once(bench.system.client(), wanted):
        phases = _phases(bench, _traffic(struck=numbers[_HEALTHY:], healthy=healthy))
    arrivals = bench.receiver.arrivals()
    refused = bench.receiver.refused(_NAME)
    figures = {
        "calm_after_s": (_last(arrivals, phases.during) - phases.healed_ns) / 1e9,
        "attempts_per_delivery": 1 + refused / max(1, _count(arrivals, phases.during, numbers[_HEALTHY:])),
        **to_limit(_times(arrivals, limited, phases.healed_ns)),
        **at_once(
            _times(arrivals, others, phases.healed_ns), processes=bench.system.settings.get("worker_processes", 1)
        ),
        **_healthy(arrivals, phases, healthy),
    }
    name = f"retry-storm: {bench.sizes.storm_endpoints} endpoints fail for {bench.sizes.storm_s:g} s"
    return [Measured(name, phases.during, figures=figures, at_most=_LIMITS)]


def _wanted(bench: Bench, number: int, query: str, **fields: Any) -> dict[str, Any]:
    return {"url": f"{bench.receiver.url(number)}{query}", "eventTypes": [_type(number)], **fields}


def _type(number: int) -> str:
    return f"bench.storm{number}"


def _traffic(*, struck: Sequence[int], healthy: Sequence[int]) -> Traffic:
    targets: list[int] = []
    for index, number in enumerate(struck):
        targets.append(number)
        if index % (_TURN - 1) == 0:
            targets.append(healthy[index // (_TURN - 1) % len(healthy)])
    return Traffic([_type(number) for number in targets], 1, lambda n: (targets[n % len(targets)],))


def _phases(bench: Bench, traffic: Traffic) -> _Phases:
    before = _sent(bench, traffic, seconds=bench.sizes.storm_after_s)
    bench.drain()
    bench.receiver.fail(_NAME)
    during = _sent(bench, traffic, seconds=bench.sizes.storm_s)
    bench.receiver.heal(_NAME)
    healed_ns = time.monotonic_ns()
    after = _sent(bench, traffic, seconds=bench.sizes.storm_after_s)
    bench.drain(patience_s=_PATIENCE_S)
    return _Phases(before, during, after, healed_ns)


def _sent(bench: Bench, traffic: Traffic, *, seconds: float) -> Run:
    return bench.send(traffic, seconds=seconds, clients=_CLIENTS, gap_s=_GAP_S)


def _last(arrivals: Arrivals, run: Run) -> int:
    sent = set(run.made.sent.n)
    return max((at for n, at in zip(arrivals.n, arrivals.at_ns, strict=True) if n in sent), default=0)


def _count(arrivals: Arrivals, run: Run, endpoints: Sequence[int]) -> int:
    sent = set(run.made.sent.n)
    return sum(n in sent and e in endpoints for n, e in zip(arrivals.n, arrivals.endpoint, strict=True))


def _times(arrivals: Arrivals, endpoints: Sequence[int], since_ns: int) -> list[list[int]]:
    """When what came since then arrived, in order, for each of these endpoints that got anything."""
    times: defaultdict[int, list[int]] = defaultdict(list)
    for endpoint, at_ns in zip(arrivals.endpoint, arrivals.at_ns, strict=True):
        if endpoint in endpoints and at_ns >= since_ns:
            times[endpoint].append(at_ns)
    return [sorted(one) for one in times.values()]


def to_limit(times: Sequence[Sequence[int]]) -> dict[str, float]:
    """How dense the arrivals of the worst endpoint with a limit were, to that limit."""
    return {
        f"limited_to_rate_in_{window_s}_s.max": _most(densest(one, window_s=window_s) for one in times)
        / window_s
        / _RATE
        for window_s in (1, 10)
    }


def at_once(times: Sequence[Sequence[int]], *, processes: int) -> dict[str, float]:
    """How many requests the worst endpoint without a limit had at once, in all and right after its probe."""
    after_probe = [[at for at in one[1:] if at < one[1] + _AT_ONCE_S * 1e9] for one in times if len(one) > 1]
    return {
        "others_in_1_s.max": _most(densest(one, window_s=1) for one in times),
        "others_at_once_to_width.max": _most(densest(one, window_s=_AT_ONCE_S) for one in times) / (_WIDTH * processes),
        "others_at_once_at_first_to_width.max": _most(map(len, after_probe)) / (_FIRST_WIDTH * processes),
    }


def _most(counts: Iterable[int]) -> float:
    return float(max(counts, default=0))


def _healthy(arrivals: Arrivals, phases: _Phases, healthy: range) -> Mapping[str, float]:
    runs = {"before": phases.before, "during": phases.during, "after": phases.after}
    p99_ms = {name: _p99_ms(arrivals, run, healthy) for name, run in runs.items()}
    return {
        **{f"healthy_p99_ms.{name}": value for name, value in p99_ms.items()},
        "healthy_p99_ratio": p99_ms["during"] / p99_ms["before"],
    }


def _p99_ms(arrivals: Arrivals, run: Run, healthy: range) -> float:
    columns = zip(arrivals.n, arrivals.endpoint, arrivals.at_ns, strict=True)
    only = Arrivals()
    for n, endpoint, at_ns in columns:
        if endpoint in healthy:
            only.n.append(n)
            only.endpoint.append(endpoint)
            only.at_ns.append(at_ns)
    return percentile(account(run.made.sent, only, run.traffic.endpoints_of).since_accept_ms, 0.99)
