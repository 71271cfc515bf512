"""How much waits where: kept by the clock in small tables, so that looking costs the same at ten million rows.

A delivery that no worker owns is delayed (due later), held (a gate stands before it) or ready; an owned one is in
flight. What a refresh writes, it sets: two clocks count nothing twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from relay.db import Conn
from relay.delivery.live import TIERS

_LOCK = 7010


@dataclass(frozen=True, slots=True)
class QueueStats:
    """The state of a client's queue, or of all.

    pending = queued + delivering + failed = ready + held + delayed + delivering. `as_of`: None before the first count.
    """

    queued: int
    delivering: int
    failed: int
    delayed: int
    held: int
    ready: int
    delivered: int
    dead: int
    cancelled: int
    oldest_age_s: float
    as_of: datetime | None

    @property
    def pending(self) -> int:
        """Count what is accepted and not final."""
        return self.queued + self.delivering + self.failed


@dataclass(frozen=True, slots=True)
class PriorityStats:
    """What is ready, by tier, and what waits for a time to come. What is not fanned out yet is in no tier."""

    high: int
    normal: int
    low: int
    delayed: int


async def refresh(conn: Conn) -> None:
    """Count anew; do nothing while another process does. Costs about half a millisecond per 1 000 deliveries that wait."""
    async with conn.transaction():
        rows = await conn.execute("SELECT pg_try_advisory_xact_lock(%s)", (_LOCK,))
        if not (await rows.fetchall())[0][0]:
            return
        # In the order in which work moves on: what moves meanwhile is counted twice for a moment, never missed.
        await _count_intake(conn)
        await _count_live(conn)
        await _count_dead(conn)
        await conn.execute(
            """INSERT INTO counted (name, at) VALUES ('queue', now())
               ON CONFLICT (name) DO UPDATE SET at = excluded.at"""
        )


async def confirm(conn: Conn) -> None:
    """Say that nothing has moved since the last count: it is as of now."""
    await conn.execute("UPDATE counted SET at = now() WHERE name = 'queue'")


async def _count_intake(conn: Conn) -> None:
    await conn.execute(
        """WITH f AS MATERIALIZED (
               SELECT tenant_id, sum(queued) AS queued, sum(scheduled) AS scheduled, min(oldest) AS oldest FROM (
                   SELECT tenant_id, count(*) AS queued, 0 AS scheduled, min(since) AS oldest
                   FROM outbox GROUP BY 1 UNION ALL
                   SELECT tenant_id, 0, count(*), NULL FROM scheduled GROUP BY 1) x
               GROUP BY tenant_id),
           gone AS (
               DELETE FROM intake_counts c WHERE NOT EXISTS (SELECT FROM f WHERE f.tenant_id = c.tenant_id))
           INSERT INTO intake_counts AS c (tenant_id, queued, scheduled, oldest)
           SELECT tenant_id, queued, scheduled, oldest FROM f
           ON CONFLICT (tenant_id) DO UPDATE
               SET queued = excluded.queued, scheduled = excluded.scheduled, oldest = excluded.oldest
           WHERE (c.queued, c.scheduled, c.oldest)
               IS DISTINCT FROM (excluded.queued, excluded.scheduled, excluded.oldest)"""
    )


async def _count_live(conn: Conn) -> None:
    await conn.execute(
        """WITH g AS MATERIALIZED (
               SELECT endpoint_id FROM lanes
               WHERE key = '' AND gate_closed(paused, gate_reason, gate_until)),
           d AS (
               SELECT l.tenant_id, l.endpoint_id, l.tier, l.attempts, coalesce(l.due_at, l.sent_at) AS since,
                      CASE WHEN l.owner IS NOT NULL THEN 'in_flight' WHEN l.due_at > now() THEN 'delayed'
                           WHEN g.endpoint_id IS NOT NULL THEN 'held' ELSE 'ready' END AS place
               FROM live l LEFT JOIN g ON g.endpoint_id = l.endpoint_id),
           f AS MATERIALIZED (
               SELECT tenant_id, endpoint_id, tier,
                      count(*) FILTER (WHERE place = 'ready') AS waiting,
                      count(*) FILTER (WHERE place = 'delayed') AS delayed,
                      count(*) FILTER (WHERE place = 'held') AS held,
                      count(*) FILTER (WHERE place = 'in_flight') AS in_flight,
                      count(*) FILTER (WHERE place <> 'in_flight' AND attempts > 0) AS retrying,
                      min(since) FILTER (WHERE place = 'ready') AS oldest
               FROM d GROUP BY tenant_id, endpoint_id, tier),
           gone AS (
               DELETE FROM queue_counts c WHERE NOT EXISTS (
                   SELECT FROM f WHERE (f.tenant_id, f.endpoint_id, f.tier) = (c.tenant_id, c.endpoint_id, c.tier)))
           INSERT INTO queue_counts AS c
               (tenant_id, endpoint_id, tier, waiting, delayed, held, in_flight, retrying, oldest)
           SELECT tenant_id, endpoint_id, tier, waiting, delayed, held, in_flight, retrying, oldest FROM f
           ON CONFLICT (tenant_id, endpoint_id, tier) DO UPDATE SET waiting = excluded.waiting,
               delayed = excluded.delayed, held = excluded.held, in_flight = excluded.in_flight,
               retrying = excluded.retrying, oldest = excluded.oldest
           WHERE (c.waiting, c.delayed, c.held, c.in_flight, c.retrying, c.oldest) IS DISTINCT FROM (excluded.waiting,
               excluded.delayed, excluded.held, excluded.in_flight, excluded.retrying, excluded.oldest)"""
    )


async def _count_dead(conn: Conn) -> None:
    await conn.execute(
        """WITH f AS MATERIALIZED (
               SELECT tenant_id, endpoint_id, count(*) AS dead FROM dead_letters GROUP BY tenant_id, endpoint_id),
           gone AS (
               DELETE FROM dead_counts c WHERE NOT EXISTS (
                   SELECT FROM f WHERE (f.tenant_id, f.endpoint_id) = (c.tenant_id, c.endpoint_id)))
           INSERT INTO dead_counts AS c (tenant_id, endpoint_id, dead) SELECT tenant_id, endpoint_id, dead FROM f
           ON CONFLICT (tenant_id, endpoint_id) DO UPDATE SET dead = excluded.dead WHERE c.dead <> excluded.dead"""
    )


async def queue_stats(conn: Conn, tenant_id: UUID | None) -> QueueStats:
    """Return the counts of one tenant (None: of all) as last refreshed; all zero for a tenant without work."""
    rows = await conn.execute(
        """WITH t AS (SELECT %s::uuid AS id),
           i AS (
               SELECT coalesce(sum(queued), 0)::int8 AS queued, coalesce(sum(scheduled), 0)::int8 AS scheduled,
                      min(oldest) AS oldest
               FROM intake_counts, t WHERE t.id IS NULL OR tenant_id = t.id),
           q AS (
               SELECT coalesce(sum(waiting), 0)::int8 AS waiting, coalesce(sum(delayed), 0)::int8 AS delayed,
                      coalesce(sum(held), 0)::int8 AS held, coalesce(sum(in_flight), 0)::int8 AS in_flight,
                      coalesce(sum(retrying), 0)::int8 AS retrying, min(oldest) AS oldest
               FROM queue_counts, t WHERE t.id IS NULL OR tenant_id = t.id),
           d AS (
               SELECT coalesce(sum(dead), 0)::int8 AS dead FROM dead_counts, t WHERE t.id IS NULL OR tenant_id = t.id),
           finished AS (
               SELECT delivered, cancelled FROM finished_counts, t WHERE t.id IS NULL OR tenant_id = t.id
               UNION ALL  -- only until the first sums are made, after an upgrade
               SELECT delivered, cancelled FROM stats, t
               WHERE (t.id IS NULL OR tenant_id = t.id) AND grain = 'day'
                 AND NOT EXISTS (SELECT FROM counted WHERE name = 'finished')
               UNION ALL
               SELECT delivered, cancelled FROM stats, t
               WHERE (t.id IS NULL OR tenant_id = t.id) AND grain = 'minute'
                 AND at >= coalesce((SELECT at FROM counted WHERE name = 'finished'),
                                    (SELECT at FROM counted WHERE name = 'stats_days'), '-infinity')),
           s AS (
               SELECT coalesce(sum(delivered), 0)::int8 AS delivered, coalesce(sum(cancelled), 0)::int8 AS cancelled
               FROM finished)
           SELECT i.queued + q.waiting + q.delayed + q.held - q.retrying + i.scheduled, q.in_flight, q.retrying,
                  q.delayed + i.scheduled, q.held, q.waiting + i.queued, s.delivered, d.dead, s.cancelled,
                  coalesce(extract(epoch FROM greatest(now() - least(q.oldest, i.oldest), '0'::interval)), 0)::float8,
                  (SELECT at FROM counted WHERE name = 'queue')
           FROM i, q, d, s""",
        (tenant_id,),
    )
    return QueueStats(*(await rows.fetchall())[0])


async def priority_stats(conn: Conn, tenant_id: UUID | None) -> PriorityStats:
    """Return the counts by tier of one tenant (None: of all) as last refreshed."""
    rows = await conn.execute(
        """WITH t AS (SELECT %s::uuid AS id),
           i AS (
               SELECT coalesce(sum(scheduled), 0)::int8 AS scheduled FROM intake_counts, t
               WHERE t.id IS NULL OR tenant_id = t.id)
           SELECT coalesce(sum(waiting) FILTER (WHERE tier = 0), 0)::int8,
                  coalesce(sum(waiting) FILTER (WHERE tier = 1), 0)::int8,
                  coalesce(sum(waiting) FILTER (WHERE tier = 2), 0)::int8,
                  coalesce(sum(delayed), 0)::int8 + (SELECT scheduled FROM i)
           FROM queue_counts, t WHERE t.id IS NULL OR tenant_id = t.id""",
        (tenant_id,),
    )
    return PriorityStats(*(await rows.fetchall())[0])


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits in all, of all tenants; ages in seconds, by tier."""

    held: int
    delayed: int
    in_flight: int
    dead: int
    oldest_s: dict[str, float]


async def waiting(conn: Conn) -> Waiting:
    """Return what waits, as last refreshed. The oldest event that is not fanned out yet counts in `normal`."""
    rows = await conn.execute(
        """WITH q AS (
               SELECT coalesce(sum(held), 0)::int8 AS held, coalesce(sum(delayed), 0)::int8 AS delayed,
                      coalesce(sum(in_flight), 0)::int8 AS in_flight,
                      min(oldest) FILTER (WHERE tier = 0) AS high, min(oldest) FILTER (WHERE tier = 1) AS normal,
                      min(oldest) FILTER (WHERE tier = 2) AS low
               FROM queue_counts),
           o AS (
               SELECT min(first.since) AS oldest FROM generate_series(0, 15) AS s CROSS JOIN LATERAL (
                   SELECT since FROM outbox WHERE shard = s AND failed_reason IS NULL ORDER BY n LIMIT 1) first),
           i AS (SELECT coalesce(sum(scheduled), 0)::int8 AS scheduled FROM intake_counts),
           d AS (SELECT coalesce(sum(dead), 0)::int8 AS dead FROM dead_counts)
           SELECT held, delayed + scheduled, in_flight, dead,
                  extract(epoch FROM greatest(now() - high, '0'::interval))::float8,
                  extract(epoch FROM greatest(now() - least(normal, o.oldest), '0'::interval))::float8,
                  extract(epoch FROM greatest(now() - low, '0'::interval))::float8
           FROM q, o, i, d"""
    )
    held, delayed, in_flight, dead, *ages = (await rows.fetchall())[0]
    return Waiting(held, delayed, in_flight, dead, dict(zip(TIERS, ages, strict=True)))


async def depth(conn: Conn) -> dict[str, int]:
    """Return by tier how much is ready of all tenants, as last refreshed: what more workers would send sooner.

    An event that is not fanned out yet is one in `normal`, since its tier is not counted; one that was set aside because
    it cannot be is none, for no worker would help it.
    """
    rows = await conn.execute(
        """WITH i AS (
               SELECT greatest(coalesce(sum(queued), 0) - (SELECT count(*) FROM outbox WHERE failed_reason IS NOT NULL), 0)
                   AS queued
               FROM intake_counts)
           SELECT coalesce(sum(waiting) FILTER (WHERE tier = 0), 0)::int8,
                  (coalesce(sum(waiting) FILTER (WHERE tier = 1), 0) + (SELECT queued FROM i))::int8,
                  coalesce(sum(waiting) FILTER (WHERE tier = 2), 0)::int8
           FROM queue_counts"""
    )
    return dict(zip(TIERS, (await rows.fetchall())[0], strict=True))
