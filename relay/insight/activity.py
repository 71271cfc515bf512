"""What moves at this moment, of one client or of all: the queue by tier, what was done of late, and who fails most.

Read from what the clock has counted, so looking every second costs the same whatever is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from relay.db import Conn
from relay.delivery.live import TIERS

#: Of so long ago failures count as of late.
WINDOW = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Tier:
    """What waits and moves in one tier; `oldest_age_s` is that of the oldest that is ready, 0 without one."""

    ready: int = 0
    held: int = 0
    delayed: int = 0
    delivering: int = 0
    oldest_age_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Moved:
    """Deliveries made and ended, and attempts with those that failed, from `since` until they were counted."""

    since: datetime
    until: datetime | None
    created: int
    delivered: int
    dead: int
    attempts: int
    failed_attempts: int


@dataclass(frozen=True, slots=True)
class Failing:
    """An endpoint with failed attempts of late."""

    endpoint_id: UUID
    url: str
    attempts: int
    failed_attempts: int
    circuit: str


async def tiers(conn: Conn, tenant_id: UUID | None) -> dict[str, Tier]:
    """Return the tiers by name, for one tenant or (None) all; what is not fanned out yet is in normal, as is scheduled.

    Their sums are those of `queue_stats`.
    """
    rows = await conn.execute(
        """WITH t AS (SELECT %s::uuid AS id),
           parts AS (
               SELECT tier, waiting, held, delayed, in_flight, oldest FROM queue_counts, t
               WHERE t.id IS NULL OR tenant_id = t.id
               UNION ALL
               SELECT 1, queued, 0, scheduled, 0, oldest FROM intake_counts, t WHERE t.id IS NULL OR tenant_id = t.id)
           SELECT tier, sum(waiting)::int8, sum(held)::int8, sum(delayed)::int8, sum(in_flight)::int8,
                  coalesce(extract(epoch FROM greatest(now() - min(oldest), '0'::interval)), 0)::float8
           FROM parts GROUP BY tier""",
        (tenant_id,),
    )
    found = {TIERS[tier]: Tier(*counts) async for tier, *counts in rows}
    return {name: found.get(name, Tier()) for name in TIERS}


async def moved(conn: Conn, tenant_id: UUID | None, *, since: datetime) -> Moved:
    """Return what was done since the minute of `since`, as last counted: for one `since` it never falls.

    While nothing moves the clock counts nothing anew, but says so under the name of the queue.
    """
    rows = await conn.execute(
        """SELECT date_trunc('minute', %(since)s), (SELECT max(at) FROM counted WHERE name IN ('stats', 'queue')),
                  coalesce(sum(created), 0)::int8, coalesce(sum(delivered), 0)::int8, coalesce(sum(dead), 0)::int8,
                  coalesce(sum(attempts), 0)::int8, coalesce(sum(attempts - ok), 0)::int8
           FROM stats WHERE grain = 'minute' AND at >= date_trunc('minute', %(since)s)
             AND (%(tenant)s::uuid IS NULL OR tenant_id = %(tenant)s)""",
        {"since": since, "tenant": tenant_id},
    )
    return Moved(*(await rows.fetchall())[0])


async def circuits(conn: Conn, tenant_id: UUID | None) -> int:
    """Count the circuits that are not closed."""
    rows = await conn.execute(
        """SELECT count(*) FROM lanes WHERE key = '' AND gate_reason IS NOT NULL AND gate_reason = 'circuit_open'
             AND (%(tenant)s::uuid IS NULL OR tenant_id = %(tenant)s)""",
        {"tenant": tenant_id},
    )
    return (await rows.fetchall())[0][0]


async def failing(conn: Conn, tenant_id: UUID | None, *, limit: int) -> Sequence[Failing]:
    """Return the endpoints with most failed attempts in the last five minutes, those first that have most."""
    rows = await conn.execute(
        """WITH w AS (
               SELECT endpoint_id, sum(attempts)::int8 AS attempts, sum(attempts - ok)::int8 AS failed FROM stats
               WHERE grain = 'minute' AND at > now() - %(window)s
                 AND (%(tenant)s::uuid IS NULL OR tenant_id = %(tenant)s)
               GROUP BY 1 HAVING sum(attempts - ok) > 0 ORDER BY 3 DESC, 1 LIMIT %(limit)s)
           SELECT w.endpoint_id, e.url, w.attempts, w.failed,
                  CASE WHEN l.gate_reason IS DISTINCT FROM 'circuit_open' THEN 'closed'
                       WHEN l.gate_until > now() THEN 'open' ELSE 'half_open' END
           FROM w JOIN endpoints e ON e.id = w.endpoint_id
           LEFT JOIN lanes l ON l.endpoint_id = w.endpoint_id AND l.key = ''
           ORDER BY w.failed DESC, w.endpoint_id""",
        {"window": WINDOW, "tenant": tenant_id, "limit": limit},
    )
    return [Failing(*row) async for row in rows]
