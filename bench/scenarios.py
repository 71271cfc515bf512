"""The scenarios: which traffic each sends and which budgets it is held against."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from bench.backlog import backlog
from bench.core import blackhole, fifo, priority, ratelimit, tenants
from bench.fanout import fanout1000, fanout5000, lent_at_once
from bench.growth import grown
from bench.guide import guide
from bench.intake import accepting, batch_intake
from bench.load import Bench, Measured, Traffic
from bench.overhead import metrics
from bench.own_cost import own_cost
from bench.programs import ProgramFailed, Receiver
from bench.sizes import Sizes
from bench.storm import retry_storm
from bench.system import System
from bench.transform import transform
from bench.wall import wall

_BATCH = 100
_LIST = 1000
_GRAPHQL = "relay-graphql"
#: A generator that is later than this measures itself.
_LATE_MS = 10.0
_ONE_TYPE = "bench.single"
_PARTS = (("web", 250.0), ("worker", 250.0), ("postgres", 200.0), ("valkey", 40.0))


def single(bench: Bench) -> list[Measured]:
    """One endpoint gets everything: sent one by one as fast as it goes and at fixed rates, then in lists of 100."""
    budgets = _cpu_budgets(800)
    one = bench.warmed_run(_one_endpoint(bench.sizes))
    measured = [
        Measured("single: REST, one by one", one, at_most=budgets),
        *(_at_rate(bench, rate) for rate in bench.sizes.rates),
    ]
    if bench.system.adapter("relay").many:
        lists = bench.warmed_run(_one_endpoint(bench.sizes, batch=_BATCH))
        floor = (("events_accepted_per_s", 3_000.0),)
        measured.append(Measured(f"single: REST, lists of {_BATCH}", lists, at_most=budgets, at_least=floor))
    return measured


def _at_rate(bench: Bench, rate: int) -> Measured:
    run = bench.run(_one_endpoint(bench.sizes), rate=rate, count=int(rate * bench.sizes.seconds))
    limits = (("late_ms.p99", _LATE_MS),)
    return Measured(f"single: REST, one by one, {rate} a second", run, figures=run.made.late, at_most=limits)


def graphql_single(bench: Bench) -> list[Measured]:
    """One mutation for each event: what accepting alone costs, then with one endpoint that gets everything."""
    name, floor = "graphql-single: sendEvent", (("events_accepted_per_s", 1_500.0),)
    alone = accepting(bench, f"{name}, nobody subscribed", way=_GRAPHQL, batch=1, at_least=floor)
    run = bench.warmed_run(_one_endpoint(bench.sizes, way=_GRAPHQL))
    return [alone, Measured(f"{name}, one endpoint", run, at_least=floor)]


def fanout10(bench: Bench) -> list[Measured]:
    """Each event matches ten of a thousand endpoints."""
    sizes = bench.sizes
    run = bench.warmed_run(_ten_endpoints(sizes))
    budgets = (("cpu_us_per_delivery.total", 400.0),)
    name = f"fanout10: REST, {sizes.subscribed} endpoints, {sizes.endpoints_per_type} per event"
    return [Measured(name, run, at_most=budgets)]


def latency_idle(bench: Bench) -> list[Measured]:
    """Single events at random moments of an otherwise idle system, and what that system uses when none come."""
    run = bench.run(_one_endpoint(bench.sizes), count=bench.sizes.idle_events, gap_s=bench.sizes.idle_gap_s)
    budgets = (
        ("accept_to_receive_ms.p50", 25.0),
        ("accept_to_receive_ms.p99", 100.0),
        ("accept_to_receive_ms.max", 250.0),
        ("idle_cpu_percent.total", 4.0),
    )
    name = "latency-idle: one event every {:g} to {:g} s".format(*bench.sizes.idle_gap_s)
    return [Measured(name, run, at_most=budgets, idle_s=bench.sizes.idle_s, idle_cpu_s=bench.idle_cpu_s())]


def hints(bench: Bench) -> list[Measured]:
    """What Redis does for a delivery, and how many a core of it would carry: sent one by one, and in lists of 1 000."""
    traffic = _one_endpoint(bench.sizes)
    bench.run(traffic, seconds=bench.sizes.warm_up_s)
    one = _hinted(bench, "one by one", traffic, seconds=bench.sizes.seconds)
    lists = _hinted(bench, f"lists of {_LIST}", _one_endpoint(bench.sizes, batch=_LIST), count=bench.sizes.backlog)
    return [one, lists]


def _hinted(bench: Bench, name: str, traffic: Traffic, **size: Any) -> Measured:
    run = bench.run(traffic, **size)
    commands = bench.used[run].commands or 0
    events = sum(run.made.sent.accepted)
    cpu_us = run.cpu_s.get("valkey", 0.0) * 1e6 / max(1, events)
    figures = {
        "redis_commands_per_request": commands * traffic.batch / max(1, events),
        "redis_cpu_us_per_delivery": cpu_us,
        "redis_percent_of_a_core_at_1500_per_s": cpu_us * 1500 / 1e4,
        "deliveries_per_s_of_a_core": 1e6 / cpu_us if cpu_us else 0.0,
    }
    return Measured(f"hints: {name}", run, figures=figures, at_most=(("redis_cpu_us_per_delivery", 40.0),))


def growth(bench: Bench) -> list[Measured]:
    """The traffic of `single` and of `fanout10`, and lists, with few deliveries stored and with ten million."""
    traffics = {"single": _one_endpoint(bench.sizes), "fanout10": _ten_endpoints(bench.sizes)}
    return grown(bench, traffics)


SCENARIOS: dict[str, Callable[[Bench], list[Measured]]] = {
    "single": single,
    "fanout10": fanout10,
    "latency-idle": latency_idle,
    "batch-intake": batch_intake,
    "graphql-single": graphql_single,
    "hints": hints,
    "blackhole": blackhole,
    "fifo": fifo,
    "ratelimit": ratelimit,
    "priority": priority,
    "backlog": backlog,
    "tenants": tenants,
    "guide": guide,
    "metrics": metrics,
    "transform": transform,
    "wall": wall,
    "fanout1000": fanout1000,
    "fanout5000": fanout5000,
    "retry-storm": retry_storm,
    "growth": growth,
    "own-cost": own_cost,
}
#: Those that any HTTP system can go through by its adapter.
FOREIGN = ("single", "fanout10", "latency-idle")
#: What runs when nothing is named, and names that stand for several.
DEFAULT = ("single", "fanout10", "latency-idle")
GROUPS: dict[str, Sequence[str]] = {"core": ("blackhole", "fifo", "ratelimit", "priority", "backlog", "tenants")}


def chosen(given: Sequence[str], *, among: Collection[str] = SCENARIOS) -> list[str]:
    """The scenarios that these names, groups among them, stand for; none given: the default."""
    names = [name for one in given or DEFAULT for name in GROUPS.get(one, (one,))]
    if unknown := [name for name in names if name not in SCENARIOS]:
        raise ProgramFailed(f"There is no scenario {unknown[0]}; there are {', '.join((*SCENARIOS, *GROUPS))}.")
    if ours := [name for name in names if name not in among]:
        raise ProgramFailed(f"The scenario {ours[0]} asks for Relay itself; by an adapter go {', '.join(among)}.")
    return names


@contextlib.contextmanager
def endpoints(system: System, receiver: Receiver, sizes: Sizes, *, names: Collection[str]) -> Iterator[None]:
    """Make the endpoints of all scenarios for the time of a block: every scenario runs with all of them there.

    A system that is no Relay gets those of the named scenarios only, and keeps them.
    """
    one, many = (receiver.url(sizes.subscribed), _ONE_TYPE), range(sizes.subscribed)
    fanned_out = [(receiver.url(index), _type(index % sizes.types)) for index in many]
    if system.foreign:
        system.foreign.subscribe_all([one, *(fanned_out if "fanout10" in names else ())])
        yield
        return
    wanted = [{"url": url, "eventTypes": [name]} for url, name in (*fanned_out, one)]
    with lent_at_once(system.client(), wanted):
        yield


def _one_endpoint(sizes: Sizes, *, batch: int = 1, way: str = "relay") -> Traffic:
    return Traffic(types=[_ONE_TYPE], fan_out=1, endpoints_of=lambda _: (sizes.subscribed,), batch=batch, way=way)


def _ten_endpoints(sizes: Sizes) -> Traffic:
    return Traffic(
        types=[_type(index) for index in range(sizes.types)],
        fan_out=sizes.endpoints_per_type,
        endpoints_of=lambda n: range(n % sizes.types, sizes.subscribed, sizes.types),
    )


def _type(index: int) -> str:
    return f"bench.t{index}"


def _cpu_budgets(total_us: float) -> list[tuple[str, float]]:
    prefix = "cpu_us_per_delivery"
    return [(f"{prefix}.total", total_us), *((f"{prefix}.{name}", limit) for name, limit in _PARTS)]
