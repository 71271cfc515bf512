"""Ending deliveries that were not sent: from waiting, or handed out and claimed by nobody, straight into the history."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from relay.db import Conn
from relay.delivery.outcomes import Cancelled, Dead
from relay.delivery.record import state_of


async def end(conn: Conn, ids: Sequence[UUID], outcome: Dead | Cancelled) -> int:
    """End those of the deliveries that no worker owns and return how many; the caller has locked them.

    Whoever ends them knows of it: a dead one owes nobody a notice.
    """
    rows = await conn.execute(
        """WITH f AS (
            DELETE FROM live WHERE id = ANY(%(ids)s::uuid[]) AND owner IS NULL RETURNING *),
        h AS (
            INSERT INTO history (id, tenant_id, event_id, endpoint_id, state, tier, lane, seq, attempts, reason, replay_of,
                first, job_id, created_at)
            SELECT id, tenant_id, event_id, endpoint_id, %(state)s, tier, lane, seq, attempts, %(reason)s, replay_of, first,
                job_id, created_at
            FROM f),
        d AS (
            INSERT INTO dead_letters (id, tenant_id, endpoint_id, event_id, reason, told)
            SELECT id, tenant_id, endpoint_id, event_id, %(reason)s, true FROM f WHERE %(state)s = 'dead')
        SELECT count(*) FROM f""",
        {"ids": list(ids), "state": state_of(outcome), "reason": outcome.reason},
    )
    return (await rows.fetchall())[0][0]
