"""The queries of the deployment guide, asked as a user does, with many deliveries stored."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from bench import asking
from bench.accounting import percentile
from bench.filling import Stored, fill_history, fill_minutes
from bench.load import Bench, Measured
from relay.cli import own_endpoint

_BUDGET_MS = 5.0
_TYPE = "bench.guide"
_SPAN = timedelta(hours=20)


def guide(bench: Bench) -> list[Measured]:
    """What the guide has people ask, each over its own HTTP request, as often as the sizes say."""
    stored = bench.sizes.stored
    name = f"guide: its queries with {stored} deliveries stored"
    limits = tuple((f"{asked}_ms.p50", _BUDGET_MS) for asked in _queries(""))
    figures = _asked(bench, stored) if bench.system.database_url else {}
    return [Measured(name, None, figures=figures, at_most=limits)]


def _asked(bench: Bench, stored: int) -> Mapping[str, float]:
    client = bench.system.client()
    with own_endpoint.lent(client, {"url": bench.receiver.url(0), "eventTypes": [_TYPE]}) as endpoint:
        url = str(bench.system.database_url)
        fill_history(url, Stored([endpoint.id], stored, _SPAN))
        fill_minutes(url, endpoint.id, count=stored)
        queries = {"nothing": "{ __typename }", **_queries(endpoint.id)}
        return {
            f"{name}_ms.{label}": percentile(times, share)
            for name, query in queries.items()
            for times in [sorted(asking.times_ms(client, query, count=bench.sizes.asked))]
            for label, share in (("p50", 0.5), ("p99", 0.99))
        }


def _queries(endpoint_id: str) -> dict[str, str]:
    return {
        "dead": "{ queueStats { dead } }",
        "queued_pending": "{ queueStats { queued pending } }",
        "endpoint": f'{{ endpoint(id: "{endpoint_id}") {{ stats {{ successRate avgLatencyMs }} }} }}',
    }
