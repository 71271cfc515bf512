"""Retry: what failed is due now, what ended without arriving gets a successor."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from relay.db import Conn
from relay.delivery import deliveries
from relay.delivery.deliveries import DeliveryStatus
from relay.errors import Conflict
from relay.ids import Uuid7
from relay.recovery.replay import Final, replay
from relay.recovery.targets import Refusal


async def make_due(conn: Conn, tenant_id: UUID, ids: Sequence[UUID]) -> set[UUID]:
    """Let the client's failed deliveries be due now, and ring their lanes; return those that were waiting."""
    rows = await conn.execute(
        """WITH x AS MATERIALIZED (
            SELECT id FROM live
            WHERE tenant_id = %s AND id = ANY(%s::uuid[]) AND fence IS NULL AND attempts > 0 ORDER BY id FOR UPDATE),
        w AS (
            UPDATE live l SET due_at = least(l.due_at, now()) FROM x WHERE l.id = x.id
            RETURNING l.id, l.endpoint_id, l.lane, l.tenant_id, l.tier),
        ring AS (
            INSERT INTO lanes (endpoint_id, key, tenant_id, tier, ready_at)
            SELECT DISTINCT endpoint_id, lane, tenant_id, tier, now() FROM w ORDER BY endpoint_id, lane
            ON CONFLICT (endpoint_id, key) DO UPDATE SET ready_at = least(lanes.ready_at, excluded.ready_at))
        SELECT id FROM w""",
        (tenant_id, list(ids)),
    )
    return {row[0] async for row in rows}


async def retry(conn: Conn, tenant_id: UUID, id: UUID, *, ids: Uuid7) -> UUID:
    """Return the delivery that is due now: this one if it failed, a new one if it is dead or cancelled.

    Raises NotFound, and Conflict for any other, and for what was replayed or cancelled before.
    """
    if await make_due(conn, tenant_id, [id]):
        return id
    found = await deliveries.get(conn, tenant_id, id)
    match found.status:
        case DeliveryStatus.FAILED:
            return id  # handed out already
        case DeliveryStatus.QUEUED:
            raise Conflict("The delivery waits for its first attempt.")
        case DeliveryStatus.DELIVERING:
            raise Conflict("The delivery is in flight.")
        case DeliveryStatus.DELIVERED:
            raise Conflict("The delivery has arrived; replayEvent with endpointId sends the event again.")
        case DeliveryStatus.DEAD | DeliveryStatus.CANCELLED:
            final = Final(id, found.event_id, found.endpoint_id, found.status, found.tier, found.lane, found.seq)
            result = (await replay(conn, tenant_id, [final], ids=ids))[id]
            if isinstance(result, Refusal):
                raise Conflict(result.value)
            return result
