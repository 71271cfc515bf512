"""What a person looks at costs the same whatever is stored: by plan, by pages read and by time, at a million deliveries.

The times are loose, for the machine is shared; `bench guide` holds the guide's queries to 5 ms at ten million.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from psycopg import sql
from psycopg.abc import Params, QueryNoTemplate

from relay.db import Conn
from relay.insight import analytics, counts, finished, stats
from relay.insight.analytics import AnalyticsDimension, AnalyticsFilter
from relay.insight.buckets import Granularity
from tests.rows import World, make_world

BIG = ("history", "attempts", "events", "live", "outbox", "fanouts", "dead_letters", "stats", "rollups")
PAGES = 5_000  # of 8 KiB; the history alone has 25 000
DELIVERIES = """INSERT INTO history (id, tenant_id, event_id, endpoint_id, state, tier, attempts, reason, created_at,
                    finished_at)
    SELECT id, %(tenant)s, id, %(endpoint)s, CASE WHEN i %% 100 = 0 THEN 'dead' ELSE 'delivered' END, 1, 1, 'ok', at, at
    FROM generate_series(1, 1000000) AS i
    CROSS JOIN LATERAL (SELECT now() - interval '20 h' + i * interval '50 ms' AS at) t
    CROSS JOIN LATERAL (SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::int8), 12, '0') || '70008000'
                                || lpad(to_hex(i), 12, '0'))::uuid AS id) u"""
LATENCY = "(SELECT array_agg(ARRAY[b, 5]) FROM generate_series(10, 24) AS b)"
ENDPOINT = "CASE WHEN e = 0 THEN %(endpoint)s ELSE md5(e::text)::uuid END"
MINUTES = f"""INSERT INTO stats (grain, at, tenant_id, endpoint_id, created, delivered, attempts, ok, answered, latency_ms,
                  latency)
    SELECT 'minute', date_trunc('minute', now()) - m * interval '1 min', %(tenant)s, {ENDPOINT}, 17, 17, 18, 17, 18, 360,
           {LATENCY}
    FROM generate_series(0, 2879) AS m, generate_series(0, 19) AS e"""
DAYS = f"""INSERT INTO stats (grain, at, tenant_id, endpoint_id, delivered)
    SELECT 'day', date_trunc('day', now(), 'UTC') - d * interval '1 day', %(tenant)s, {ENDPOINT}, 1000
    FROM generate_series(0, 29) AS d, generate_series(0, 499) AS e"""
ROLLUPS = f"""INSERT INTO rollups
    SELECT g.grain, date_trunc(g.grain, now(), 'UTC') - n * g.step, %(tenant)s, {ENDPOINT}, 'order.' || t, s.reason, s.status,
           60, 1000, {LATENCY}, 60, 0, 0
    FROM (VALUES ('day', interval '1 day', 399), ('hour', interval '1 hour', 700)) AS g (grain, step, n_max)
    CROSS JOIN LATERAL generate_series(1, g.n_max) AS n, generate_series(0, 9) AS e, generate_series(0, 1) AS t,
    (VALUES ('ok', 200), ('http_server_error', 500)) AS s (reason, status)"""


class Asked:
    """A connection that remembers what it was asked."""

    def __init__(self, conn: Conn) -> None:
        self.conn = conn
        self.statements: list[tuple[QueryNoTemplate, Params | None]] = []

    async def execute(self, query: QueryNoTemplate, params: Params | None = None) -> object:
        self.statements.append((query, params))
        return await self.conn.execute(query, params)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


async def look(conn: Conn, question: Callable[[Conn], Awaitable[object]], *, within_ms: float) -> None:
    """Ask, and check how each statement is carried out."""
    asked = Asked(conn)
    await question(cast("Conn", asked))
    for query, params in asked.statements:
        text = query if isinstance(query, sql.Composable) else sql.SQL(cast("Any", query))
        rows = await conn.execute(sql.SQL("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ") + text, params)
        plan: dict[str, Any] = (await rows.fetchall())[0][0][0]["Plan"]
        scanned = {node["Relation Name"] for node in nodes(plan) if node["Node Type"] == "Seq Scan"}
        assert not [name for name in scanned if name.rstrip("_0123456789") in BIG], plan
        assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < PAGES, plan
    took: list[float] = []
    for _ in range(12):  # from the sixth on prepared
        began = time.perf_counter()
        await question(conn)
        took.append(1000 * (time.perf_counter() - began))
    assert min(took) < within_ms, took


async def fill(conn: Conn) -> World:
    world = await make_world(conn)
    for statement in (DELIVERIES, MINUTES, DAYS, ROLLUPS):
        await conn.execute(statement.encode(), {"tenant": world.tenant_id, "endpoint": world.endpoint_id})
    await conn.execute(
        """INSERT INTO counted VALUES ('queue', now()), ('stats', now()), ('stats_days', now() - interval '15 min'),
               ('rollups', now()), ('rollup_hours', date_trunc('hour', now(), 'UTC')),
               ('rollup_days', date_trunc('day', now(), 'UTC'))"""
    )
    await conn.execute("ANALYZE history, stats, rollups")
    await finished.close(conn)
    return world


async def test_looking_costs_the_same_at_a_million_deliveries(conn: Conn) -> None:
    world = await fill(conn)
    tenant, endpoint = world.tenant_id, world.endpoint_id
    whole_year = AnalyticsFilter(since=datetime.now(UTC) - timedelta(days=365), endpoint_id=endpoint)
    assert (await counts.queue_stats(conn, tenant)).delivered > 15_000_000
    for client in (tenant, None):
        await look(conn, lambda conn, client=client: counts.queue_stats(conn, client), within_ms=25)
        await look(conn, lambda conn, client=client: analytics.summary(conn, client, AnalyticsFilter()), within_ms=250)
        await look(
            conn,
            lambda conn, client=client: analytics.series(conn, client, whole_year, Granularity.DAY),
            within_ms=250,
        )
        await look(
            conn,
            lambda conn, client=client: analytics.breakdown(
                conn, client, AnalyticsFilter(), AnalyticsDimension.ENDPOINT, first=10
            ),
            within_ms=250,
        )
    await look(conn, lambda conn: stats.of_endpoints(conn, [endpoint], 24), within_ms=25)
    await look(conn, lambda conn: stats.of_endpoints(conn, [endpoint], 24 * 30), within_ms=25)
    await look(conn, lambda conn: stats.percentiles_of_endpoints(conn, [endpoint], 24), within_ms=250)
