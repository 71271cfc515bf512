"""FIFO lanes as they are looked at: how long each is, what stands at its head, and what holds it up."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from relay.db import Conn
from relay.delivery.live import FIFO


@dataclass(frozen=True, slots=True)
class Queue:
    """A FIFO lane with work, or blocked by a dead head.

    `length`: what waits. `locked`: there is something to release. `head_id`: the first delivery in any state, or the dead
    one that blocks. `blocked_until`: the time for which the lane sleeps; None also when only somebody's action ends that.
    """

    endpoint_id: UUID
    partition_key: str
    length: int
    in_flight: bool
    locked: bool
    head_id: UUID
    blocked_until: datetime | None
    oldest_age_s: float


async def totals(conn: Conn, tenant_id: UUID, endpoint_id: UUID) -> tuple[int, int]:
    """Return how many lanes of an endpoint have work or are blocked, and how many deliveries wait in them."""
    rows = await conn.execute(
        """WITH w AS (
               SELECT lane AS key, count(*) FILTER (WHERE owner IS NULL) AS length FROM live
               WHERE endpoint_id = %(endpoint)s AND tenant_id = %(tenant)s AND seq IS NOT NULL GROUP BY lane),
           b AS (
               SELECT key FROM lanes
               WHERE endpoint_id = %(endpoint)s AND tenant_id = %(tenant)s AND blocked_by IS NOT NULL)
           SELECT count(*), coalesce(sum(length), 0)::int8 FROM w FULL JOIN b USING (key)""",
        {"tenant": tenant_id, "endpoint": endpoint_id},
    )
    row = (await rows.fetchall())[0]
    return row[0], row[1]


async def list_longest(conn: Conn, tenant_id: UUID, *, endpoint_id: UUID | None = None, first: int) -> list[Queue]:
    """Return the client's lanes with work, or of one endpoint, the longest first."""
    rows = await conn.execute(
        """WITH e AS MATERIALIZED (
               SELECT id FROM endpoints
               WHERE tenant_id = %(tenant)s AND deleted_at IS NULL AND kind = 'subscribed'
                 AND (%(endpoint)s::uuid IS NULL OR id = %(endpoint)s)),
           w AS (
               SELECT l.endpoint_id, l.lane AS key, count(*) FILTER (WHERE l.owner IS NULL) AS length,
                      bool_or(l.owner IS NOT NULL) AS in_flight, min(l.seq) AS seq, min(l.created_at) AS oldest
               FROM e JOIN live l ON l.endpoint_id = e.id AND l.seq IS NOT NULL GROUP BY l.endpoint_id, l.lane),
           b AS (
               SELECT x.endpoint_id, x.key FROM e JOIN lanes x ON x.endpoint_id = e.id WHERE x.blocked_by IS NOT NULL),
           q AS MATERIALIZED (
               SELECT endpoint_id, key, coalesce(length, 0) AS length, coalesce(in_flight, false) AS in_flight, seq, oldest
               FROM w FULL JOIN b USING (endpoint_id, key) ORDER BY length DESC, endpoint_id, key LIMIT %(first)s)
           SELECT q.endpoint_id, substr(q.key, %(prefix)s), q.length, q.in_flight,
                  coalesce(x.fence IS NOT NULL OR x.blocked_by IS NOT NULL OR h.fence IS NOT NULL, false),
                  coalesce(x.blocked_by, h.id),
                  CASE WHEN x.blocked_by IS NULL THEN nullif(greatest(
                      gate_sleeps_until(g.paused, g.gate_reason, g.gate_until, g.probe_until),
                      CASE WHEN h.due_at > now() THEN h.due_at END), 'infinity') END,
                  coalesce(extract(epoch FROM greatest(now() - q.oldest, '0'::interval)), 0)::float8
           FROM q LEFT JOIN lanes x ON x.endpoint_id = q.endpoint_id AND x.key = q.key
           LEFT JOIN lanes g ON g.endpoint_id = q.endpoint_id AND g.key = ''
           LEFT JOIN live h ON h.endpoint_id = q.endpoint_id AND h.lane = q.key AND h.seq = q.seq
           ORDER BY q.length DESC, q.endpoint_id, q.key""",
        {"tenant": tenant_id, "endpoint": endpoint_id, "first": first, "prefix": len(FIFO) + 1},
    )
    return [Queue(*row) async for row in rows]
