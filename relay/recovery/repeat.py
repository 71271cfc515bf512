"""Repeats: new deliveries that wait in their lanes, made by hand or by a job and not by a fan-out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from relay.db import Conn


@dataclass(frozen=True, slots=True)
class Repeat:
    """A new delivery; `replay_of` is the one it repeats, `replay_seq` that one's place in a FIFO lane."""

    id: UUID
    event_id: UUID
    endpoint_id: UUID
    tier: int
    lane: str
    replay_of: UUID | None = None
    replay_seq: int | None = None


async def insert(conn: Conn, tenant_id: UUID, repeats: Sequence[Repeat], *, job_id: UUID | None = None) -> None:
    """Store new deliveries, due now, in the order given, and ring their lanes.

    In a FIFO lane each goes to the tail, but the repeat of the dead head that blocks it: that takes the head's place.
    """
    if not repeats:
        return
    await _ring(conn, tenant_id, repeats)
    await _store(conn, tenant_id, repeats, job_id=job_id)


async def _ring(conn: Conn, tenant_id: UUID, repeats: Sequence[Repeat]) -> None:
    """Ring, and lock, the lanes; what the next statement reads of them is the last word."""
    await conn.execute(
        """INSERT INTO lanes (endpoint_id, key, tenant_id, tier, ready_at)
           SELECT DISTINCT endpoint_id, key, %s::uuid, tier, now()
           FROM unnest(%s::uuid[], %s::text[], %s::int2[]) AS r (endpoint_id, key, tier) ORDER BY endpoint_id, key
           ON CONFLICT (endpoint_id, key) DO UPDATE SET ready_at = least(lanes.ready_at, excluded.ready_at)""",
        (
            tenant_id,
            [one.endpoint_id for one in repeats],
            [one.lane for one in repeats],
            [one.tier for one in repeats],
        ),
    )


async def _store(conn: Conn, tenant_id: UUID, repeats: Sequence[Repeat], *, job_id: UUID | None) -> None:
    await conn.execute(
        """WITH r AS MATERIALIZED (
            SELECT r.*, r.lane LIKE 'fifo:%%' AS ordered, coalesce(l.blocked_by = r.replay_of, false) AS heads
            FROM unnest(%s::uuid[], %s::uuid[], %s::uuid[], %s::text[], %s::int2[], %s::uuid[], %s::int8[])
                WITH ORDINALITY AS r (id, event_id, endpoint_id, lane, tier, replay_of, replay_seq, i)
            JOIN lanes l ON l.endpoint_id = r.endpoint_id AND l.key = r.lane),
        n AS (
            UPDATE lanes l SET next_seq = l.next_seq + r.count, used_at = now(),
                               blocked_by = CASE WHEN NOT r.heads THEN l.blocked_by END
            FROM (SELECT endpoint_id, lane, count(*) FILTER (WHERE NOT heads) AS count, bool_or(heads) AS heads
                  FROM r WHERE ordered GROUP BY endpoint_id, lane) r
            WHERE l.endpoint_id = r.endpoint_id AND l.key = r.lane RETURNING l.endpoint_id, l.key, l.next_seq)
        INSERT INTO live (id, tenant_id, event_id, endpoint_id, tier, lane, due_at, first, replay_of, job_id, seq)
        SELECT r.id, %s, r.event_id, r.endpoint_id, r.tier, r.lane, now(), false, r.replay_of, %s,
               CASE WHEN r.heads THEN r.replay_seq ELSE n.next_seq - row_number() OVER (
                   PARTITION BY r.endpoint_id, r.lane, r.heads ORDER BY r.i DESC) END
        FROM r LEFT JOIN n ON n.endpoint_id = r.endpoint_id AND n.key = r.lane ORDER BY r.i""",
        (
            [one.id for one in repeats],
            [one.event_id for one in repeats],
            [one.endpoint_id for one in repeats],
            [one.lane for one in repeats],
            [one.tier for one in repeats],
            [one.replay_of for one in repeats],
            [one.replay_seq for one in repeats],
            tenant_id,
            job_id,
        ),
    )
