"""What the leader looks at for the metrics, and what it says of it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import cast
from uuid import UUID

import psycopg
import pytest

from relay import metrics, partitions
from relay.db import Conn
from relay.insight import counts, survey
from relay.insight.leader import WORST, LeaderGauges, drain_s
from tests.insight.plans import Asked, explained, nodes
from tests.rows import World, make_world, new_id


@pytest.fixture
async def world(conn: Conn) -> World:
    return await make_world(conn)


@pytest.fixture
def leader() -> Iterator[LeaderGauges]:
    yield LeaderGauges()
    metrics.cluster.drop()


def shown(name: str) -> dict[str, float]:
    """What the page says under a name, by label."""
    found = re.findall(rf'^{name}(?:{{\w+="(.*)"}})? (\S+)$', metrics.render().decode(), re.MULTILINE)
    return {label: float(value) for label, value in found}


async def gated(world: World, gate: str) -> UUID:
    """An endpoint before which a gate stands: a reason, and for how many seconds from now."""
    endpoint_id = await world.endpoint()
    reason, seconds = gate.split()
    await world.conn.execute(
        """UPDATE lanes SET gate_reason = %s, gate_until = now() + make_interval(secs => %s)
           WHERE endpoint_id = %s AND key = ''""",
        (reason, float(seconds), endpoint_id),
    )
    return endpoint_id


async def test_circuits_are_open_until_a_probe_may_go_and_other_gates_are_none(world: World) -> None:
    assert await survey.circuits(world.conn) == {"open": 0, "half_open": 0}
    for gate in ("circuit_open 60", "circuit_open 60", "circuit_open -1", "throttled 60"):
        await gated(world, gate)
    assert await survey.circuits(world.conn) == {"open": 2, "half_open": 1}


async def test_lanes_wait_when_they_are_due_and_nobodys(world: World) -> None:
    await world.conn.execute("UPDATE lanes SET ready_at = NULL, ready = false")
    assert await survey.lanes(world.conn) == {"waiting": 0, "held": 0, "blocked": 0}
    await world.conn.execute(
        """INSERT INTO lanes (endpoint_id, key, tenant_id, tier, ready_at, ready, fence, owner, sent_at, blocked_by)
           SELECT %s, 'fifo:' || key, %s, 1, ready_at, ready, fence, owner, sent_at, blocked_by FROM (VALUES
               ('due', now() - interval '1 s', false, NULL::int8, NULL::int8, NULL::timestamptz, NULL::uuid),
               ('ready', NULL, true, NULL, NULL, NULL, NULL), ('later', 'infinity', false, NULL, NULL, NULL, NULL),
               ('out', NULL, false, 1, NULL, now(), NULL), ('held', NULL, false, 2, 7, now(), NULL),
               ('blocked', NULL, false, NULL, NULL, NULL, gen_random_uuid()))
               AS l (key, ready_at, ready, fence, owner, sent_at, blocked_by)""",
        (world.endpoint_id, world.tenant_id),
    )
    assert await survey.lanes(world.conn) == {"waiting": 2, "held": 1, "blocked": 1}


async def test_counting_lanes_reads_those_alone_that_it_counts(world: World) -> None:
    await world.conn.execute(
        """INSERT INTO lanes (endpoint_id, key, tenant_id, tier, blocked_by)
           SELECT gen_random_uuid(), 'fifo:', %s, 1, CASE WHEN i <= 3 THEN gen_random_uuid() END
           FROM generate_series(1, 20000) AS i""",
        (world.tenant_id,),
    )
    await world.conn.execute("VACUUM ANALYZE lanes")
    asked = Asked(world.conn)
    assert (await survey.lanes(cast("Conn", asked)))["blocked"] == 3
    assert await survey.circuits(cast("Conn", asked)) == {"open": 0, "half_open": 0}
    for query, params in asked.statements:
        plan = await explained(world.conn, query, params)
        assert not [node for node in nodes(plan) if node["Node Type"] == "Seq Scan"], plan
        assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 50, plan


async def test_the_worst_endpoints_are_those_with_most_failures_then_the_busiest(
    world: World, leader: LeaderGauges
) -> None:
    await world.conn.execute(
        """INSERT INTO stats (grain, at, tenant_id, endpoint_id, attempts, ok, answered, latency_ms)
           SELECT 'minute', date_trunc('minute', now() - m * interval '1 min'), %s, ('0' || lpad(n::text, 31, '0'))::uuid,
                  n, 5, CASE n WHEN 30 THEN 0 ELSE 10 END, m * 30000
           FROM generate_series(1, 30) n, generate_series(0, 1) m
           UNION ALL SELECT 'minute', now() - interval '20 min', %s, gen_random_uuid(), 1000, 0, 0, 0""",
        (world.tenant_id, world.tenant_id),
    )
    found = await survey.worst(world.conn, limit=2)
    assert [(int(str(one.endpoint_id).replace("-", "")), one.failures) for one in found] == [(30, 50), (29, 48)]
    await leader.survey(world.conn, keep_days=30)
    assert len(shown("relay_worst_endpoint_failures")) == WORST
    first, second = (str(one.endpoint_id) for one in found)
    attempts, seconds = (shown(f"relay_worst_endpoint_{name}") for name in ("attempts", "answer_seconds"))
    assert attempts.keys() == seconds.keys() == shown("relay_worst_endpoint_failures").keys()
    assert (attempts[first], attempts[second]) == (60, 58)
    assert (seconds[first], seconds[second]) == (0, 1.5)  # nobody answered; 20 answers in 30 s
    await world.conn.execute("UPDATE stats SET ok = attempts")
    await leader.survey(world.conn, keep_days=30)
    busiest = shown("relay_worst_endpoint_attempts")
    assert sorted(busiest.values(), reverse=True) == [2 * n for n in range(30, 30 - WORST, -1)]
    assert set(shown("relay_worst_endpoint_failures").values()) == {0}
    await world.conn.execute("DELETE FROM stats WHERE at > now() - interval '10 min'")
    await leader.survey(world.conn, keep_days=30)
    for name in ("failures", "attempts", "answer_seconds"):
        assert shown(f"relay_worst_endpoint_{name}") == {}


async def test_what_waits_is_told_by_place_and_age(world: World, leader: LeaderGauges) -> None:
    closed = await gated(world, "circuit_open 60")
    await world.waiting(await world.event(), endpoint_id=closed)
    await world.waiting(await world.event(), due_s=60)
    await world.waiting(await world.event(), due_s=-30, tier=0)
    await world.dispatched(await world.event(), owner=1)
    await world.conn.execute(
        "INSERT INTO scheduled (event_id, tenant_id, due_at) VALUES (%s, %s, now())", (new_id(),) * 2
    )
    outbox = """INSERT INTO outbox (shard, tenant_id, event_id, since, failed_reason)
                VALUES (0, %s, %s, now() - %s::interval, %s)"""
    await world.conn.execute(outbox, (world.tenant_id, new_id(), "10 s", None))
    await world.conn.execute(outbox, (world.tenant_id, new_id(), "1 day", "set aside"))
    async with world.conn.transaction():
        await counts.refresh(world.conn)
    leader.keep(until=asyncio.get_running_loop().time() + 60)
    await leader.measure(world.conn)
    ages = shown("relay_queue_oldest_age_seconds")
    assert {tier: round(age, -1) for tier, age in ages.items()} == {"high": 30, "normal": 10, "low": 0}
    for name, value in {"held": 1, "delayed": 2, "in_flight": 1, "drain_seconds": float("inf")}.items():
        assert shown(f"relay_queue_{name}") == {"": value}
    assert shown("relay_clock_leader") == {"": 1}
    assert shown("relay_recorded_deliveries_total") == {"delivered": 0, "dead": 0, "cancelled": 0}
    leader.lose()
    assert shown("relay_queue_held") == shown("relay_clock_leader") == {"": 0}
    assert shown("relay_recorded_deliveries_total") == {}


async def test_a_lease_that_may_have_lapsed_is_no_lead_and_a_lead_is_lost_once(leader: LeaderGauges) -> None:
    lost = shown("relay_leases_lost_total")[""]
    metrics.cluster.HELD.set(7)
    leader.keep(until=asyncio.get_running_loop().time() - 0.01)
    assert shown("relay_queue_held") == shown("relay_clock_leader") == {"": 0}
    leader.lose()
    leader.lose()
    assert shown("relay_leases_lost_total")[""] == lost + 1


async def test_nothing_is_looked_up_when_nobody_reads_metrics(conn: Conn) -> None:
    off = LeaderGauges(asked=False)
    await conn.close()
    await off.measure(conn)
    await off.survey(conn, keep_days=30)


def test_what_is_ready_takes_its_time_at_the_rate_of_late() -> None:
    assert (drain_s(0, per_s=0.0), drain_s(600, per_s=20.0), drain_s(1, per_s=0.0)) == (0.0, 30.0, float("inf"))


async def test_the_horizon_is_the_last_day_with_every_partition(conn: Conn, database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as own:
        partitions.ensure(own)
        assert await partitions.horizon(conn, keep_days=30) == (7, 0)
        name = sorted(own.execute("SELECT relname FROM pg_class WHERE relname LIKE 'attempts\\_2%' AND relkind = 'r'"))[
            -3
        ][0]
        own.execute(f"DROP TABLE {name}".encode())
    assert await partitions.horizon(conn, keep_days=30) == (4, 0)
    ahead, overdue = await partitions.horizon(conn, keep_days=1)
    assert (ahead, overdue in (4, 8)) == (4, True)  # of two days when the database was made before midnight
