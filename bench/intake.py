"""What accepting alone costs: events of a type that nobody is subscribed to, one by one and in lists."""

from __future__ import annotations

from bench import cpu
from bench.load import Bench, Measured, Traffic

_TYPE = "bench.accepted"
#: More lists at once only wait for each other, and the web refuses what it has no room for.
_SENDERS = 4
_FLOOR = (("events_accepted_per_s", 3_000.0),)


def batch_intake(bench: Bench) -> list[Measured]:
    """Lists of 100 and of 1 000 events, through the mutation and through the REST batch."""
    graphql = [
        accepting(bench, f"batch-intake: GraphQL sendEvents, lists of {size}", way="relay-graphql", batch=size)
        for size in bench.sizes.lists
    ]
    rest = [
        accepting(bench, f"batch-intake: REST batch, lists of {size}", way="relay", batch=size, at_least=_FLOOR)
        for size in bench.sizes.lists
    ]
    return [*graphql, *rest]


def accepting(
    bench: Bench, name: str, *, way: str, batch: int, at_least: tuple[tuple[str, float], ...] = ()
) -> Measured:
    """Send in a closed loop events that lead to no delivery; the CPU is that used until the last is accepted."""
    traffic = Traffic(types=[_TYPE], fan_out=0, endpoints_of=lambda _: (), batch=batch, way=way)
    clients = bench.sizes.clients if batch == 1 else min(_SENDERS, bench.sizes.clients)
    bench.send(traffic, seconds=bench.sizes.warm_up_s, clients=1)
    bench.wait_for_fan_out()
    before = bench.system.cpu_used()
    run = bench.send(traffic, seconds=bench.sizes.seconds, clients=clients)
    cpu_s = cpu.spent(before, bench.system.cpu_used())
    bench.wait_for_fan_out()
    bench.drain()
    if cpu_s:
        cpu_s["web+postgres"] = cpu_s["web"] + cpu_s["postgres"]
    figures = {
        f"cpu_us_per_event.{group}": seconds * 1e6 / max(1, sum(run.made.sent.accepted))
        for group, seconds in cpu_s.items()
    }
    return Measured(name, run, figures=figures, at_least=at_least)
