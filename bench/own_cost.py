"""What the benchmark itself costs: its generator sends straight to a receiver, and Relay has nothing to do with it."""

from __future__ import annotations

from urllib.parse import urlsplit

from bench.load import Bench, Measured
from bench.plan import Plan
from bench.programs import generated, receiving

_MOST_US = 30.0


def own_cost(bench: Bench) -> list[Measured]:
    """CPU of both for single events and for lists; beside Relay, on the same cores, they cost more."""
    return [_straight(bench, batch=1), _straight(bench, batch=100)]


def _straight(bench: Bench, *, batch: int) -> Measured:
    with receiving() as receiver:  # one of its own: what comes here was never due
        url = urlsplit(receiver.url(0))
        plan = Plan(
            url.hostname or "", url.port or 0, url.path, [('{"n":', f',"pad":"{bench.sizes.padding}"}}')],
            opening="[", closing="]", batch=batch, clients=bench.sizes.clients, seconds=bench.sizes.seconds,
        )  # fmt: skip
        before = receiver.cpu_s()
        made = generated(plan)
        received_s = receiver.cpu_s() - before
    figures = {
        "sending_us_per_event": 1e6 * made.cpu_s / max(1, sum(made.sent.accepted)),
        "receiving_us_per_request": 1e6 * received_s / max(1, sum(made.statuses.values())),
    }
    name = f"own-cost: straight from the generator to the receiver, lists of {batch}"
    return Measured(name, None, figures=figures, at_most=[(figure, _MOST_US) for figure in figures])
