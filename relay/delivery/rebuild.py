"""Rebuilding Redis from Postgres: hints are thrown away, and all that waits rings anew.

Safe on a running system, and to repeat: what a worker owns is left to it, and a message that was overtaken finds its
fence gone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from relay.db import REPEATABLE, Conn, Database
from relay.delivery import lanes
from relay.intake import outbox
from relay.queue import Queue

_BATCH = 1_000


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What was done: messages thrown away, deliveries and lanes taken back, lanes rung, outbox shards rung."""

    messages: int
    deliveries: int
    lanes: int
    rung: int
    shards: int


async def rebuild(db: Database, queue: Queue) -> Rebuilt:
    """Throw away Relay's messages in Redis and have everything that waits in Postgres handed out again."""
    messages = await queue.clear()
    async with db.connection() as conn:
        now = (await (await conn.execute("SELECT now()")).fetchall())[0][0]
    deliveries = await _until_none(db, take_back_unclaimed, now)
    unheld = await _until_none(db, take_back_lanes, now)
    rung = await _ring_all(db)
    async with db.connection() as conn:
        shards = await outbox.shards_with_work(conn)
    if shards:
        await queue.ring(shards)
    await queue.wake_clock()
    return Rebuilt(messages, deliveries, unheld, rung, len(shards))


async def _until_none(db: Database, take_back: Callable[[Conn, datetime], Awaitable[int]], before: datetime) -> int:
    total, last = 0, _BATCH
    while last == _BATCH:
        try:
            async with db.connection() as conn:
                last = await take_back(conn, before)
        except REPEATABLE:
            continue
        total += last
    return total


async def take_back_unclaimed(conn: Conn, before: datetime) -> int:
    """Return some deliveries that were handed out until then and claimed by nobody to their lanes, due now; how many."""
    rows = await conn.execute(
        """WITH x AS MATERIALIZED (
            SELECT id FROM live WHERE fence IS NOT NULL AND owner IS NULL AND sent_at <= %s
            ORDER BY sent_at, id LIMIT %s FOR UPDATE SKIP LOCKED),
        w AS (
            UPDATE live l SET fence = NULL, sent_at = NULL, due_at = now() FROM x WHERE l.id = x.id AND l.owner IS NULL
            RETURNING l.endpoint_id, l.lane, l.tenant_id, l.tier),
        ring AS (
            INSERT INTO lanes (endpoint_id, key, tenant_id, tier, ready_at)
            SELECT DISTINCT endpoint_id, lane, tenant_id, tier, now() FROM w ORDER BY endpoint_id, lane
            ON CONFLICT (endpoint_id, key) DO UPDATE SET ready_at = least(lanes.ready_at, excluded.ready_at))
        SELECT count(*) FROM w""",
        (before, _BATCH),
    )
    return (await rows.fetchall())[0][0]


async def take_back_lanes(conn: Conn, before: datetime) -> int:
    """Make some lanes that were handed out until then and are held by nobody ready again; return how many."""
    done = await conn.execute(
        """UPDATE lanes l SET fence = NULL, sent_at = NULL, ready_at = now() FROM (
               SELECT endpoint_id, key FROM lanes WHERE fence IS NOT NULL AND owner IS NULL AND sent_at <= %s
               ORDER BY endpoint_id, key LIMIT %s FOR UPDATE SKIP LOCKED) x
           WHERE l.endpoint_id = x.endpoint_id AND l.key = x.key AND l.owner IS NULL""",
        (before, _BATCH),
    )
    return done.rowcount


async def _ring_all(db: Database) -> int:
    rung, some, after = 0, [(UUID(int=0), "")] * _BATCH, (UUID(int=0), "")
    while len(some) == _BATCH:
        async with db.connection() as conn:
            some = await lanes.with_waiting(conn, after=after, limit=_BATCH)
            rung += await ring(conn, some)
        after = some[-1] if some else after
    return rung


async def ring(conn: Conn, waiting: list[tuple[UUID, str]]) -> int:
    """Ring these lanes at the time of the earliest delivery that waits in each; return how many would have slept longer."""
    done = await conn.execute(
        """INSERT INTO lanes (endpoint_id, key, tenant_id, tier, ready_at)
           SELECT u.endpoint_id, u.lane, w.tenant_id, w.tier, w.due_at
           FROM unnest(%s::uuid[], %s::text[]) AS u (endpoint_id, lane)
           CROSS JOIN LATERAL (
               SELECT tenant_id, tier, due_at FROM live
               WHERE endpoint_id = u.endpoint_id AND lane = u.lane AND due_at IS NOT NULL ORDER BY due_at LIMIT 1) w
           ORDER BY u.endpoint_id, u.lane
           ON CONFLICT (endpoint_id, key) DO UPDATE SET ready_at = excluded.ready_at
           WHERE lanes.fence IS NULL AND coalesce(lanes.ready_at > greatest(excluded.ready_at, now()), true)""",
        ([endpoint_id for endpoint_id, _ in waiting], [lane for _, lane in waiting]),
    )
    return done.rowcount
