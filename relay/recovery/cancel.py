"""Cancelling: a delivery that nobody sends is never sent again, a dead one is settled."""

from __future__ import annotations

from uuid import UUID

from relay.db import Conn
from relay.delivery import deliveries
from relay.delivery.deliveries import DeliveryStatus
from relay.delivery.ending import end
from relay.delivery.outcomes import Cancelled, Reason
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
    lane = await _lock_lane(conn, tenant_id, id)
    rows = await conn.execute(
        "SELECT 1 FROM live WHERE tenant_id = %s AND id = %s AND owner IS NULL FOR UPDATE", (tenant_id, id)
    )
    if await rows.fetchone() is None:
        return False
    await end(conn, [id], Cancelled(Reason.CANCELLED_BY_USER))
    if lane is not None:
        # It may have been the head, whose lane would sleep until its time.
        await conn.execute(
            "UPDATE lanes SET ready_at = least(ready_at, now()) WHERE endpoint_id = %s AND key = %s", lane
        )
    return True


async def _lock_lane(conn: Conn, tenant_id: UUID, id: UUID) -> tuple[UUID, str] | None:
    """Lock the FIFO lane of a delivery, if it is in one: before the delivery, as whoever takes the head does."""
    rows = await conn.execute(
        """SELECT endpoint_id, key FROM lanes
           WHERE (endpoint_id, key) = (SELECT endpoint_id, lane FROM live WHERE tenant_id = %s AND id = %s)
             AND key LIKE 'fifo:%%' FOR UPDATE""",
        (tenant_id, id),
    )
    return await rows.fetchone()
