"""Disabling an endpoint: it is matched no more, and what waited for it is dead, visibly, not lost."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from relay.db import Conn
from relay.delivery.outcomes import Reason
from relay.ids import fence
from relay.tenancy import tenants

#: Deliveries that die with the endpoint; whatever waits beyond them, workers settle when they meet it.
AT_ONCE = 5_000


async def lock(conn: Conn, endpoint_ids: Iterable[UUID]) -> None:
    """Lock endpoints of which several are disabled in one transaction: disabling one locks its client until the commit."""
    await conn.execute(
        "SELECT 1 FROM endpoints WHERE id = ANY(%s::uuid[]) ORDER BY id FOR UPDATE", (list(endpoint_ids),)
    )


async def disable(conn: Conn, tenant_id: UUID, endpoint_id: UUID, *, reason: Reason) -> bool:
    """Disable a client's endpoint and end what waits for it (ENDPOINT_DISABLED); False when it was not active.

    Not for the hidden endpoints of createEvent, which nobody could enable again. Test deliveries go on.
    """
    done = await conn.execute(
        """UPDATE endpoints SET status = 'disabled', disabled_reason = %s, disabled_at = now(), version = version + 1,
               updated_at = now()
           WHERE tenant_id = %s AND id = %s AND kind = 'subscribed' AND status = 'active' AND deleted_at IS NULL""",
        (reason, tenant_id, endpoint_id),
    )
    if done.rowcount == 0:
        return False
    await _open_lanes(conn, endpoint_id)
    await _end_waiting(conn, endpoint_id)
    await tenants.bump(conn, tenant_id)
    return True


async def _open_lanes(conn: Conn, endpoint_id: UUID) -> None:
    """Clear every gate and ring every lane, the '' lane first, so that workers find and settle what is left."""
    await conn.execute(
        """WITH l AS MATERIALIZED (
               SELECT key FROM lanes WHERE endpoint_id = %(endpoint)s ORDER BY key FOR UPDATE)
           UPDATE lanes SET ready_at = least(lanes.ready_at, now()), blocked_by = NULL, paused = false,
               gate_until = NULL, gate_reason = NULL, probe_until = NULL, opened_at = NULL, pace_per_sec = NULL,
               paced_at = NULL, gate_epoch = CASE WHEN lanes.key = '' THEN %(epoch)s ELSE gate_epoch END
           FROM l WHERE lanes.endpoint_id = %(endpoint)s AND lanes.key = l.key""",
        {"endpoint": endpoint_id, "epoch": fence()},
    )


async def _end_waiting(conn: Conn, endpoint_id: UUID) -> None:
    await conn.execute(
        """WITH f AS (
            DELETE FROM live WHERE due_at IS NOT NULL AND id IN (
                SELECT id FROM live WHERE endpoint_id = %s AND due_at IS NOT NULL AND lane <> 'test'
                ORDER BY lane, due_at LIMIT %s FOR UPDATE SKIP LOCKED)
            RETURNING *),
        h AS (
            INSERT INTO history (id, tenant_id, event_id, endpoint_id, state, tier, lane, seq, attempts, reason, replay_of,
                first, job_id, created_at)
            SELECT id, tenant_id, event_id, endpoint_id, 'dead', tier, lane, seq, attempts, %s, replay_of, first, job_id,
                created_at
            FROM f)
        INSERT INTO dead_letters (id, tenant_id, endpoint_id, event_id, reason)
        SELECT id, tenant_id, endpoint_id, event_id, %s FROM f""",
        (endpoint_id, AT_ONCE, Reason.ENDPOINT_DISABLED, Reason.ENDPOINT_DISABLED),
    )
