"""A backlog, up to a million deliveries of one endpoint: how fast it drains, and at which cost."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from bench.cpu import by_group
from bench.load import Bench, Measured, Traffic
from relay.cli import own_endpoint
from relay.cli.api_client import Client

_BATCH = 100
#: Fan-out is faster than this.
_FANNED_OUT_PER_S = 500
_PAUSE = "mutation PauseEndpoint($id: ID!) { pauseEndpoint(id: $id) { id } }"
_RESUME = "mutation ResumeEndpoint($id: ID!) { resumeEndpoint(id: $id) { id } }"


def backlog(bench: Bench) -> list[Measured]:
    """How fast, and at which cost, one endpoint's backlog drains once its pause is over."""
    size, client, number = bench.sizes.backlog, bench.system.client(), bench.new_endpoints(1)[0]
    wanted = {"url": bench.receiver.url(number), "eventTypes": [f"bench.backlog{number}"]}
    with own_endpoint.lent(client, wanted) as endpoint:
        traffic = Traffic(wanted["eventTypes"], 1, lambda _: (number,), batch=_BATCH)
        with paused(client, endpoint.id):
            run = bench.send(traffic, count=size)
            bench.wait_for_fan_out(patience_s=60 + size / _FANNED_OUT_PER_S)
        drained = bench.drain()
    figures = {
        "drained_per_s": size / drained.seconds,
        **by_group("cpu_us_per_delivery", drained.cpu_s, unit=size / 1e6),
    }
    name = f"backlog: {size} deliveries of one endpoint"
    return [Measured(name, run, figures=figures, at_most=(("cpu_us_per_delivery.total", 800.0),))]


@contextlib.contextmanager
def paused(client: Client, endpoint_id: str) -> Iterator[None]:
    """Let everything for an endpoint wait for the time of a block."""
    client.graphql(_PAUSE, {"id": endpoint_id})
    try:
        yield
    finally:
        client.graphql(_RESUME, {"id": endpoint_id})
