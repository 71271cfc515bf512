"""What ten million stored deliveries change: nothing, in the cost of a delivery and in the lists that people look at."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import Mapping
from datetime import timedelta

import psycopg

from bench import asking
from bench.filling import Stored, clean_up, fill, fill_minutes
from bench.load import Bench, Measured, Traffic
from relay.cli import own_endpoint
from relay.insight import finished, stats

_KEEPERS = 10
#: Stored before the first measurement, so that every list has a full page then too.
_FEW = 3_000
_SPAN = timedelta(days=6)
_MOST = 1.15
#: To each round of traffic.
_ROUNDS_OF_LISTS = 2


def grown(bench: Bench, traffics: Mapping[str, Traffic]) -> list[Measured]:
    """CPU per delivery of each traffic and the latencies of lists, with few deliveries stored and with very many."""
    sizes, url = bench.sizes, bench.system.database_url
    figures: dict[str, float] = {}
    with contextlib.ExitStack() as stack:
        fields = {"url": bench.receiver.url(0), "eventTypes": ["bench.stored"]}
        lent = [stack.enter_context(own_endpoint.lent(bench.system.client(), fields)) for _ in range(_KEEPERS)]
        endpoints = [one.id for one in lent]
        if url is not None:
            fill_minutes(url, endpoints[0], count=sizes.stored)
            fill(url, Stored(endpoints, _FEW, _SPAN, payload_bytes=sizes.payload_bytes))
            before = _measured(bench, traffics, url, endpoints[0])
            began = time.monotonic()
            fill(url, Stored(endpoints, sizes.stored, _SPAN, first=_FEW + 1, payload_bytes=sizes.payload_bytes))
            figures = {"filled_s": time.monotonic() - began}
            figures |= _compared(before, _measured(bench, traffics, url, endpoints[0]))
    limits = [(f"{name}_ratio", _MOST) for name in (*(_cpu(name) for name in traffics), *_lists(""))]
    return [Measured(f"growth: {sizes.stored} deliveries stored", None, figures=figures, at_most=limits)]


def _cpu(traffic: str) -> str:
    return f"{traffic}_cpu_us"


def _lists(endpoint_id: str) -> dict[str, str]:
    node = "{ edges { node { id status attempts event { eventType } endpoint { url } } } }"
    return {
        "events_ms": "{ events { edges { node { id eventType createdAt status } } } }",
        "deliveries_ms": f"{{ deliveries {node} }}",
        "deliveries_of_endpoint_ms": f'{{ deliveries(filter: {{endpointId: "{endpoint_id}"}}) {node} }}',
        "dead_letters_ms": f"{{ deliveries(filter: {{status: DEAD, settled: false}}) {node} }}",
        "queue_stats_ms": "{ queueStats { queued pending delivering delayed delivered failed dead ready held } }",
        "endpoint_stats_ms": f'{{ endpoint(id: "{endpoint_id}") {{ stats {{ successRate avgLatencyMs dead }} }} }}',
    }


def _measured(bench: Bench, traffics: Mapping[str, Traffic], url: str, endpoint_id: str) -> dict[str, float]:
    found = {_cpu(name): _cpu_us(bench, traffic) for name, traffic in traffics.items()}
    asyncio.run(_close_days(url))
    clean_up(url)
    return found | _lists_ms(bench, endpoint_id)


async def _close_days(url: str) -> None:
    """What a clock does every ten minutes, done now: else totals add up the minutes of all traffic so far."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as conn:
        await stats.close_days(conn)
        await finished.close(conn)


def _lists_ms(bench: Bench, endpoint_id: str) -> dict[str, float]:
    """The least of some rounds' medians: what disturbs a round takes time from somebody and gives it to nobody."""
    client, sizes = bench.system.client(), bench.sizes
    rounds = [
        {
            name: statistics.median(asking.times_ms(client, query, count=sizes.asked))
            for name, query in _lists(endpoint_id).items()
        }
        for _ in range(_ROUNDS_OF_LISTS * sizes.growth_rounds)
    ]
    return {name: min(one[name] for one in rounds) for name in rounds[0]}


def _cpu_us(bench: Bench, traffic: Traffic) -> float:
    """The median of some rounds."""
    bench.run(traffic, seconds=bench.sizes.warm_up_s)
    runs = [bench.run(traffic, seconds=bench.sizes.seconds) for _ in range(bench.sizes.growth_rounds)]
    return statistics.median(
        1e6 * sum(run.cpu_s.values()) / max(1, sum(run.made.sent.accepted) * traffic.fan_out) for run in runs
    )


def _compared(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    return {
        name: value
        for figure, few in before.items()
        for name, value in (
            (f"{figure}.before", few),
            (f"{figure}.after", after[figure]),
            (f"{figure}_ratio", after[figure] / few),
        )
    }
