"""What waits, or is kept, for too long: deliveries that expire, lanes that nobody uses, dead letters without a delivery."""

from __future__ import annotations

import time
from uuid import UUID

from relay.db import Conn
from relay.delivery.outcomes import Reason
from relay.ids import floor_at
from relay.partitions import DEAD_DAYS

#: A delivery may wait for so much longer than what is final is kept.
GRACE_DAYS = 30
_DAY_S = 86_400


async def expire(conn: Conn, *, keep_days: int, limit: int = 2_000) -> int:
    """Make what has waited for RETENTION_DAYS + 30 days dead, the oldest first, unless a worker owns it; return how many.

    Belongs into a transaction: FIFO lanes are locked before their rows, as whoever takes from them does. Such a lane goes
    on with its next delivery, or is blocked by the first that expired, as its endpoint says.
    """
    days = keep_days + GRACE_DAYS
    oldest = floor_at(time.time() - days * _DAY_S)
    await _lock_ordered(conn, oldest, limit=limit)
    rows = await conn.execute(
        """WITH x AS MATERIALIZED (
            SELECT id FROM live
            WHERE id < %(oldest)s AND created_at < now() - make_interval(days => %(days)s) AND owner IS NULL
            ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED),
        f AS (DELETE FROM live l USING x WHERE l.id = x.id AND l.owner IS NULL RETURNING l.*),
        h AS (
            INSERT INTO history (id, tenant_id, event_id, endpoint_id, state, tier, lane, seq, attempts, reason, replay_of,
                first, job_id, created_at)
            SELECT id, tenant_id, event_id, endpoint_id, 'dead', tier, lane, seq, attempts, %(reason)s, replay_of, first,
                job_id, created_at
            FROM f),
        d AS (
            INSERT INTO dead_letters (id, tenant_id, endpoint_id, event_id, reason)
            SELECT id, tenant_id, endpoint_id, event_id, %(reason)s FROM f),
        ring AS (
            INSERT INTO lanes (endpoint_id, key, tenant_id, tier, ready_at, blocked_by)
            SELECT DISTINCT ON (endpoint_id, lane) endpoint_id, lane, tenant_id, tier, now(),
                CASE WHEN blocks_lane(endpoint_id) THEN id END
            FROM f WHERE seq IS NOT NULL ORDER BY endpoint_id, lane, seq
            ON CONFLICT (endpoint_id, key) DO UPDATE SET ready_at = least(lanes.ready_at, excluded.ready_at),
                blocked_by = coalesce(lanes.blocked_by, excluded.blocked_by))
        SELECT count(*) FROM f""",
        {"days": days, "oldest": oldest, "limit": limit, "reason": Reason.EXPIRED},
    )
    return (await rows.fetchall())[0][0]


async def _lock_ordered(conn: Conn, oldest: UUID, *, limit: int) -> None:
    """Lock the FIFO lanes of what is about to expire."""
    await conn.execute(
        """SELECT FROM lanes l JOIN (
               SELECT DISTINCT endpoint_id, lane FROM (
                   SELECT endpoint_id, lane, seq FROM live WHERE id < %s AND owner IS NULL ORDER BY id LIMIT %s) x
               WHERE seq IS NOT NULL) w ON w.endpoint_id = l.endpoint_id AND w.lane = l.key
           ORDER BY l.endpoint_id, l.key FOR UPDATE OF l""",
        (oldest, limit),
    )


async def forget_idle_lanes(conn: Conn, *, keep_days: int, limit: int = 1_000) -> int:
    """Remove FIFO lanes that are empty and were not used for RETENTION_DAYS; return how many. A new one counts from 1.

    Belongs into a transaction: the lanes are locked first, and looked into by a second statement. Whoever puts a delivery
    into a lane writes its row in the same transaction. Has that been committed, the row no longer fits, and what is
    locked is passed over; comes it later, it waits for ours and makes the lane anew.
    """
    rows = await conn.execute(
        """SELECT endpoint_id, key FROM lanes l
           WHERE key LIKE 'fifo:%%' AND used_at < now() - make_interval(days => %s)
             AND ready_at IS NULL AND NOT ready AND fence IS NULL AND blocked_by IS NULL
             AND NOT EXISTS (
                 SELECT FROM live WHERE endpoint_id = l.endpoint_id AND lane = l.key AND seq IS NOT NULL)
           ORDER BY endpoint_id, key LIMIT %s FOR UPDATE SKIP LOCKED""",
        (keep_days, limit),
    )
    idle = await rows.fetchall()
    done = await conn.execute(
        """DELETE FROM lanes l USING unnest(%s::uuid[], %s::text[]) AS u (endpoint_id, key)
           WHERE l.endpoint_id = u.endpoint_id AND l.key = u.key AND NOT EXISTS (
               SELECT FROM live WHERE endpoint_id = l.endpoint_id AND lane = l.key AND seq IS NOT NULL)""",
        ([row[0] for row in idle], [row[1] for row in idle]),
    )
    return done.rowcount


async def forget_dead_letters(conn: Conn, *, keep_days: int, limit: int = 1_000) -> int:
    """Take off the list what is gone from the history, where retirement left it for some days after it died; how many."""
    done = await conn.execute(
        """DELETE FROM dead_letters WHERE id IN (
               SELECT id FROM dead_letters d
               WHERE id < %s AND died_at < now() - make_interval(days => %s)
                 AND NOT EXISTS (SELECT FROM history h WHERE h.id = d.id)
               ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED)""",
        (floor_at(time.time() - keep_days * _DAY_S), DEAD_DAYS, limit),
    )
    return done.rowcount
