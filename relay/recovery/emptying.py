"""Taking out what events say, wherever it is stored: ids, times and outcomes stay."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from psycopg import sql

from relay.db import Conn
from relay.delivery.deliveries import oldest_of
from relay.ids import unix_time
from relay.recovery.dead_letters import settle, unblock
from relay.recovery.erase_items import Item, Places

#: The lane in which an erased delivery is said to have been: the real one is named after its payload.
_LANE = "fifo:erased"


async def empty(conn: Conn, tenant_id: UUID, items: Sequence[Item], where: Places) -> dict[str, int]:
    """Empty these events, whose deliveries are all final; return how many deliveries and attempts they had."""
    ids = [one.id for one in items]
    if not ids:
        return {}
    since = oldest_of(ids)
    finals: list[UUID] = []
    for place in where["history"]:
        finals += await _finals(conn, place, ids, since)
    # A dead one has nothing left to repeat, and may hold a lane up.
    await settle(conn, tenant_id, finals)
    await unblock(conn, tenant_id, finals)
    for place in where["dead_letters"][1:]:
        await conn.execute(sql.SQL("DELETE FROM {} WHERE id = ANY(%s::uuid[])").format(place), (finals,))
    for place in where["history"]:
        await _rename_lanes(conn, place, finals)
    attempts = 0
    for place in where["attempts"]:
        attempts += await _empty_attempts(conn, place, finals, datetime.fromtimestamp(unix_time(since), UTC))
    await _forget_fingerprints(conn, tenant_id, items)
    for place in where["events"]:
        await conn.execute(
            sql.SQL("UPDATE {} SET payload = NULL, headers = NULL, subject = NULL WHERE id = ANY(%s::uuid[])").format(
                place
            ),
            (ids,),
        )
    return {"deliveries": len(finals), "attempts": attempts}


async def _finals(conn: Conn, place: sql.Identifier, ids: Sequence[UUID], since: UUID) -> list[UUID]:
    rows = await conn.execute(
        sql.SQL("SELECT id FROM {} WHERE event_id = ANY(%s::uuid[]) AND id >= %s").format(place), (list(ids), since)
    )
    return [row[0] async for row in rows]


async def _rename_lanes(conn: Conn, place: sql.Identifier, ids: Sequence[UUID]) -> None:
    await conn.execute(
        sql.SQL("UPDATE {} SET lane = %s WHERE id = ANY(%s::uuid[]) AND lane LIKE 'fifo:_%%'").format(place),
        (_LANE, list(ids)),
    )


async def _empty_attempts(conn: Conn, place: sql.Identifier, deliveries: Sequence[UUID], since: datetime) -> int:
    """An error may quote the answer, and the query of a URL the payload."""
    done = await conn.execute(
        sql.SQL(
            """UPDATE {} SET request_headers = NULL, response_headers = NULL, body = NULL, error = NULL,
                   request_url = split_part(request_url, '?', 1)
               WHERE delivery_id = ANY(%s::uuid[]) AND at >= %s"""
        ).format(place),
        (list(deliveries), since),
    )
    return done.rowcount


async def _forget_fingerprints(conn: Conn, tenant_id: UUID, items: Sequence[Item]) -> None:
    """The hash of a short payload tells it; without it the key stays taken, and the same request is a conflict."""
    await conn.execute(
        """UPDATE idempotency_keys SET request_hash = ''
           WHERE tenant_id = %s AND key = ANY(%s::text[]) AND event_id = ANY(%s::uuid[])""",
        (tenant_id, [one.idempotency_key for one in items if one.idempotency_key], [one.id for one in items]),
    )
