"""Taking back an event that was to go out at a later time. It wins or loses cleanly, also while the event is due.

Of outbox, scheduled and fanouts exactly one knows an event: what is taken from one of the first two is proven in the third.
"""

from __future__ import annotations

from uuid import UUID

from relay.db import Conn
from relay.errors import Conflict
from relay.intake import events, outbox


async def cancel(conn: Conn, tenant_id: UUID, event_id: UUID) -> int | None:
    """Cancel a scheduled event, which is then never sent. Raises NotFound, and Conflict once its fan-out has begun.

    Returns the outbox shard that was locked for it, if one was: after the commit that one is to be rung, for a fan-out
    that found it locked went away.
    """
    event = await events.get(conn, tenant_id, event_id)
    if event.scheduled_at is None:
        raise Conflict("This event was not scheduled.")
    shard = None
    if not await _unschedule(conn, event_id):
        shard = await outbox.wait_for_shard(conn, tenant_id)
        if not await outbox.take_out(conn, shard, event_id):
            raise Conflict(await _refusal(conn, event_id))
    await _prove(conn, tenant_id, event_id)
    return shard


async def _unschedule(conn: Conn, event_id: UUID) -> bool:
    done = await conn.execute("DELETE FROM scheduled WHERE event_id = %s", (event_id,))
    return done.rowcount == 1


async def _prove(conn: Conn, tenant_id: UUID, event_id: UUID) -> None:
    await conn.execute(
        """INSERT INTO fanouts (event_id, tenant_id, matched, config_version, cancelled)
           SELECT %s, id, 0, config_version, true FROM tenants WHERE id = %s""",
        (event_id, tenant_id),
    )


async def _refusal(conn: Conn, event_id: UUID) -> str:
    rows = await conn.execute("SELECT 1 FROM fanouts WHERE event_id = %s AND cancelled", (event_id,))
    if await rows.fetchone() is not None:
        return "This event is cancelled already."
    return "The fan-out of this event has begun; its deliveries can be cancelled one by one."
