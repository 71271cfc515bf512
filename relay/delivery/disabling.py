"""Disabling and deleting an endpoint: it is matched no more, and what waited for it ends, visibly.

A request ends the first 5 000; every gate is opened and every lane rung, so that workers meet the rest and end it.
"""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from relay.catalog import endpoints
from relay.db import Conn
from relay.delivery.ending import end
from relay.delivery.live import TEST_LANE
from relay.delivery.outcomes import Cancelled, Dead, Reason
from relay.ids import fence
from relay.tenancy import tenants

AT_ONCE = 5_000


async def lock(conn: Conn, endpoint_ids: Iterable[UUID]) -> None:
    """Lock endpoints of which several are disabled in one transaction: disabling one locks its client until the commit."""
    await conn.execute(
        "SELECT 1 FROM endpoints WHERE id = ANY(%s::uuid[]) ORDER BY id FOR UPDATE", (list(endpoint_ids),)
    )


async def disable(conn: Conn, tenant_id: UUID, endpoint_id: UUID, *, reason: Reason) -> bool:
    """Disable a client's endpoint and let what waits for it die (ENDPOINT_DISABLED); False when it was not active.

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
    waiting = await _lock_waiting(conn, endpoint_id, spared=[TEST_LANE])
    await end(conn, waiting, Dead(Reason.ENDPOINT_DISABLED))
    await _open_lanes(conn, endpoint_id)
    await tenants.bump(conn, tenant_id)
    return True


async def delete(conn: Conn, tenant_id: UUID, endpoint_id: UUID) -> None:
    """Take a client's endpoint away and cancel what waits for it (ENDPOINT_DELETED). Raises NotFound."""
    await endpoints.delete(conn, tenant_id, endpoint_id)
    waiting = await _lock_waiting(conn, endpoint_id, spared=[])
    await end(conn, waiting, Cancelled(Reason.ENDPOINT_DELETED))
    await _open_lanes(conn, endpoint_id)
    await conn.execute("DELETE FROM failing WHERE endpoint_id = %s", (endpoint_id,))


async def _lock_waiting(conn: Conn, endpoint_id: UUID, *, spared: list[str]) -> list[UUID]:
    """Lock up to 5 000 of the deliveries that nobody owns. What somebody else has locked is left to him, and to workers."""
    rows = await conn.execute(
        """WITH d AS MATERIALIZED (
               SELECT id FROM live WHERE endpoint_id = %(endpoint)s AND fence IS NOT NULL AND owner IS NULL
                   AND lane <> ALL(%(spared)s::text[])
               LIMIT %(limit)s FOR UPDATE SKIP LOCKED),
           w AS MATERIALIZED (
               SELECT id FROM live WHERE endpoint_id = %(endpoint)s AND due_at IS NOT NULL
                   AND lane <> ALL(%(spared)s::text[])
               LIMIT %(limit)s - (SELECT count(*) FROM d) FOR UPDATE SKIP LOCKED)
           SELECT id FROM d UNION ALL SELECT id FROM w""",
        {"endpoint": endpoint_id, "spared": spared, "limit": AT_ONCE},
    )
    return [row[0] async for row in rows]


async def _open_lanes(conn: Conn, endpoint_id: UUID) -> None:
    """Clear every gate and ring every lane. A circuit that is cleared is in another epoch: late outcomes count no more."""
    await conn.execute(
        """WITH l AS MATERIALIZED (
               SELECT key FROM lanes WHERE endpoint_id = %(endpoint)s ORDER BY key FOR UPDATE)
           UPDATE lanes SET ready_at = least(lanes.ready_at, now()), blocked_by = NULL, paused = false,
               gate_until = NULL, gate_reason = NULL, probe_until = NULL, opened_at = NULL, pace_per_sec = NULL,
               paced_at = NULL, gate_epoch = CASE WHEN lanes.key = '' THEN %(epoch)s ELSE gate_epoch END
           FROM l WHERE lanes.endpoint_id = %(endpoint)s AND lanes.key = l.key""",
        {"endpoint": endpoint_id, "epoch": fence()},
    )
