"""Cancelling: a delivery that nobody sends is never sent again, a dead one is settled."""

from __future__ import annotations

from uuid import UUID

from relay.db import Conn
from relay.delivery import deliveries
from relay.delivery.deliveries import DeliveryStatus
from relay.delivery.outcomes import Reason
from relay.errors import Conflict
from relay.recovery.dead_letters import settle, unblock


async def cancel(conn: Conn, tenant_id: UUID, id: UUID) -> None:
    """Cancel the client's delivery unless a worker owns it. Raises NotFound, and Conflict in flight or when it is over."""
    if await _cancel_waiting(conn, tenant_id, id):
        return
    if await settle(conn, tenant_id, [id]):
        await unblock(conn, tenant_id, [id])
        return
    match (await deliveries.get(conn, tenant_id, id)).status:
        case DeliveryStatus.DELIVERED:
            raise Conflict("The delivery has arrived.")
        case DeliveryStatus.DEAD | DeliveryStatus.CANCELLED:
            raise Conflict("The delivery was replayed or cancelled before.")
        case _:
            raise Conflict("The delivery is in flight.")


async def _cancel_waiting(conn: Conn, tenant_id: UUID, id: UUID) -> bool:
    done = await conn.execute(
        """WITH f AS (DELETE FROM live WHERE tenant_id = %s AND id = %s AND owner IS NULL RETURNING *),
        ring AS (
            UPDATE lanes l SET ready_at = least(l.ready_at, now()) FROM f
            WHERE f.seq IS NOT NULL AND l.endpoint_id = f.endpoint_id AND l.key = f.lane)
        INSERT INTO history (id, tenant_id, event_id, endpoint_id, state, tier, lane, seq, attempts, reason, replay_of,
            first, job_id, created_at)
        SELECT id, tenant_id, event_id, endpoint_id, 'cancelled', tier, lane, seq, attempts, %s, replay_of, first, job_id,
            created_at
        FROM f""",
        (tenant_id, id, Reason.CANCELLED_BY_USER),
    )
    return done.rowcount == 1
