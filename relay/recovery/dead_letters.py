"""Dead letters: what died and was settled by nobody. Whoever takes one off this list, and nobody else, goes on with it."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from relay.db import Conn


async def settle(conn: Conn, tenant_id: UUID, ids: Sequence[UUID]) -> set[UUID]:
    """Take the client's dead deliveries off the list; return those that were on it until now."""
    rows = await conn.execute(
        """DELETE FROM dead_letters WHERE id IN (
               SELECT id FROM dead_letters WHERE tenant_id = %s AND id = ANY(%s::uuid[]) ORDER BY id FOR UPDATE)
           RETURNING id""",
        (tenant_id, list(ids)),
    )
    return {row[0] async for row in rows}


async def unblock(conn: Conn, tenant_id: UUID, ids: Sequence[UUID]) -> None:
    """Let the FIFO lanes go on that these settled deliveries, their dead heads, still block."""
    await conn.execute(
        """UPDATE lanes l SET blocked_by = NULL, ready_at = least(l.ready_at, now()) FROM history h
           WHERE h.tenant_id = %s AND h.id = ANY(%s::uuid[])
             AND l.endpoint_id = h.endpoint_id AND l.key = h.lane AND l.blocked_by = h.id""",
        (tenant_id, list(ids)),
    )
