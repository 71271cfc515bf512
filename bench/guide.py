"""The queries of the deployment guide, asked as a user does, with many deliveries stored."""

from __future__ import annotations

import time
from collections.abc import Mapping

import psycopg

from bench.accounting import percentile
from bench.load import Bench, Measured
from relay.cli import own_endpoint
from relay.cli.api_client import Client

_WARM_UP = 20
_BUDGET_MS = 5.0
_TYPE = "bench.guide"
# Over 20 hours, most of them delivered; ids carry the times, as Relay's do.
_DELIVERIES = b"""INSERT INTO history (id, tenant_id, event_id, endpoint_id, state, tier, attempts, reason, created_at,
                    finished_at)
    SELECT id, %(tenant)s, id, %(endpoint)s, CASE WHEN i %% 100 = 0 THEN 'dead' ELSE 'delivered' END, 1, 1, 'ok', at, at
    FROM generate_series(1, %(stored)s) AS i
    CROSS JOIN LATERAL (SELECT now() - interval '20 h' * (1 - i::float8 / %(stored)s) AS at) t
    CROSS JOIN LATERAL (SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::int8), 12, '0') || '70008000'
                                || lpad(to_hex(i), 12, '0'))::uuid AS id) u"""
_MINUTES = b"""INSERT INTO stats (grain, at, tenant_id, endpoint_id, created, delivered, attempts, ok, answered, latency_ms,
                  latency)
    SELECT 'minute', date_trunc('minute', now()) - m * interval '1 min', %(tenant)s, %(endpoint)s, n, n, n, n, n, 20.0 * n,
           ARRAY[ARRAY[20, n]]
    FROM generate_series(2, 1200) AS m, (SELECT (%(stored)s / 1200)::int AS n) t"""


def guide(bench: Bench) -> list[Measured]:
    """What the guide has people ask, each over its own HTTP request, until enough answers are there."""
    stored = bench.sizes.stored
    name = f"guide: its queries with {stored} deliveries stored"
    limits = tuple((f"{asked}_ms.p50", _BUDGET_MS) for asked in _queries(""))
    figures = _asked(bench, stored) if bench.system.database_url else {}
    return [Measured(name, None, figures=figures, at_most=limits)]


def _asked(bench: Bench, stored: int) -> Mapping[str, float]:
    client = bench.system.client()
    with own_endpoint.lent(client, {"url": bench.receiver.url(0), "eventTypes": [_TYPE]}) as endpoint:
        _fill(str(bench.system.database_url), endpoint.id, stored)
        queries = {"nothing": "{ __typename }", **_queries(endpoint.id)}
        return {
            f"{name}_ms.{label}": percentile(times, share)
            for name, query in queries.items()
            for times in [sorted(_times_ms(client, query, times=bench.sizes.looks))]
            for label, share in (("p50", 0.5), ("p99", 0.99))
        }


def _queries(endpoint_id: str) -> dict[str, str]:
    return {
        "dead": "{ queueStats { dead } }",
        "queued_pending": "{ queueStats { queued pending } }",
        "endpoint": f'{{ endpoint(id: "{endpoint_id}") {{ stats {{ successRate avgLatencyMs }} }} }}',
    }


def _fill(database_url: str, endpoint_id: str, stored: int) -> None:
    with psycopg.connect(database_url, autocommit=True) as conn:
        rows = conn.execute("SELECT id, tenant_id FROM endpoints WHERE id = %s", (endpoint_id,))
        endpoint, tenant = rows.fetchall()[0]
        for statement in (_DELIVERIES, _MINUTES):
            conn.execute(statement, {"tenant": tenant, "endpoint": endpoint, "stored": stored})
        conn.execute("ANALYZE history, stats")


def _times_ms(client: Client, query: str, *, times: int) -> list[float]:
    taken: list[float] = []
    for _ in range(_WARM_UP + times):
        began = time.perf_counter()
        client.graphql(query)
        taken.append(1000 * (time.perf_counter() - began))
    return taken[_WARM_UP:]
