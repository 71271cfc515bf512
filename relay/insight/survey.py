"""What the leader looks at now and then, for the metrics: circuits, lanes, partitions, and who fails most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from relay.db import Conn

_WINDOW = timedelta(minutes=5)


async def circuits(conn: Conn) -> dict[str, int]:
    """Count the circuits that are not closed, by state: those whose probe may go are half open. Reads gated lanes only."""
    rows = await conn.execute(
        """SELECT count(*) FILTER (WHERE gate_until > now()), count(*) FILTER (WHERE gate_until <= now())
           FROM lanes WHERE key = '' AND gate_reason IS NOT NULL AND gate_reason = 'circuit_open'"""
    )
    return dict(zip(("open", "half_open"), (await rows.fetchall())[0], strict=True))


async def lanes(conn: Conn) -> dict[str, int]:
    """Count the lanes that are due and nobody's, that are held, and that a dead head blocks."""
    rows = await conn.execute(
        """SELECT (SELECT count(*) FROM lanes WHERE ready)
                  + (SELECT count(*) FROM lanes WHERE ready_at <= now() AND NOT ready AND fence IS NULL),
                  (SELECT count(*) FROM lanes WHERE fence IS NOT NULL AND owner IS NOT NULL),
                  (SELECT count(*) FROM lanes WHERE blocked_by IS NOT NULL)"""
    )
    return dict(zip(("waiting", "held", "blocked"), (await rows.fetchall())[0], strict=True))


@dataclass(frozen=True, slots=True)
class Failing:
    """An endpoint: its attempts of the last five minutes, the failed ones, and how long an answer took."""

    endpoint_id: UUID
    failures: int
    attempts: int
    answer_s: float


async def worst(conn: Conn, *, limit: int) -> Sequence[Failing]:
    """Return the endpoints with most failed attempts in the last five minutes, of those alike the busiest."""
    rows = await conn.execute(
        """SELECT endpoint_id, sum(attempts - ok)::int8 AS failures, sum(attempts)::int8,
                  coalesce(sum(latency_ms) / nullif(sum(answered), 0) / 1000, 0)::float8
           FROM stats WHERE grain = 'minute' AND at > now() - %s::interval
           GROUP BY 1 ORDER BY 2 DESC, 3 DESC, 1 LIMIT %s""",
        (_WINDOW, limit),
    )
    return [Failing(*row) async for row in rows]
