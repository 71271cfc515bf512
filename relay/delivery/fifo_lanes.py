"""What operators do to a FIFO lane that is stuck or too long: end its lease, skip its dead head, or empty it.

Functions take the partition key; "" is the lane of what has none. The lane is locked first, its rows without waiting: who
records an outcome locks in the other order.
"""

from __future__ import annotations

from uuid import UUID

from relay.db import Conn
from relay.delivery.ending import end
from relay.delivery.live import FIFO
from relay.delivery.outcomes import Cancelled, Reason

#: What one transaction of a drain takes, so that none holds a lane for long.
AT_ONCE = 5_000


async def release(conn: Conn, endpoint_id: UUID, partition_key: str) -> bool:
    """End the lane's lease, put its head back to be sent now, and skip a dead head; False when nothing was held.

    A late answer of the holder is fenced off: it counts as an attempt of that delivery and changes nothing else.
    """
    key = FIFO + partition_key
    held = await _lock(conn, endpoint_id, key)
    if held is None:
        return False
    if not await _put_head_back(conn, endpoint_id, key) and not held:
        return False
    await conn.execute(
        """UPDATE lanes SET owner = NULL, fence = NULL, sent_at = NULL, blocked_by = NULL, ready_at = now()
           WHERE endpoint_id = %s AND key = %s""",
        (endpoint_id, key),
    )
    return True


async def _lock(conn: Conn, endpoint_id: UUID, key: str) -> bool | None:
    """Lock the lane, after the one in which the endpoint's ordinary deliveries wait; whether it is held. None: no lane."""
    rows = await conn.execute(
        """SELECT key, fence IS NOT NULL OR blocked_by IS NOT NULL FROM lanes
           WHERE endpoint_id = %s AND key IN ('', %s) ORDER BY key FOR UPDATE""",
        (endpoint_id, key),
    )
    return dict(await rows.fetchall()).get(key)


async def _put_head_back(conn: Conn, endpoint_id: UUID, key: str) -> bool:
    """Let the head wait, due now, if somebody has it; one whose outcome is being recorded at this moment is left to that."""
    done = await conn.execute(
        """WITH x AS MATERIALIZED (
               SELECT id, fence FROM live WHERE id = (
                   SELECT id FROM live WHERE endpoint_id = %s AND lane = %s AND seq IS NOT NULL ORDER BY seq LIMIT 1)
               AND fence IS NOT NULL FOR UPDATE SKIP LOCKED)
           UPDATE live l SET released_fence = l.fence, fence = NULL, owner = NULL, sent_at = NULL, due_at = now()
           FROM x WHERE l.id = x.id AND l.fence = x.fence""",
        (endpoint_id, key),
    )
    return done.rowcount == 1


async def move_to_standard(conn: Conn, endpoint_id: UUID, partition_key: str) -> int:
    """Make up to 5 000 of what waits in the lane ordinary deliveries, their order given up; return how many."""
    key = FIFO + partition_key
    if await _lock(conn, endpoint_id, key) is None:
        return 0
    ids = await _lock_waiting(conn, endpoint_id, key)
    await conn.execute(
        """WITH w AS (
               UPDATE live SET lane = '', tier = 1, seq = NULL, fence = NULL, sent_at = NULL, due_at = coalesce(due_at, now())
               WHERE id = ANY(%s::uuid[]) AND owner IS NULL RETURNING due_at)
           UPDATE lanes SET ready_at = least(ready_at, (SELECT min(due_at) FROM w)) WHERE endpoint_id = %s AND key = ''""",
        (ids, endpoint_id),
    )
    await _ring(conn, endpoint_id, key)
    return len(ids)


async def cancel_waiting(conn: Conn, endpoint_id: UUID, partition_key: str) -> int:
    """Cancel up to 5 000 of what waits in the lane (DRAINED); return how many."""
    key = FIFO + partition_key
    if await _lock(conn, endpoint_id, key) is None:
        return 0
    ids = await _lock_waiting(conn, endpoint_id, key)
    await end(conn, ids, Cancelled(Reason.DRAINED))
    await _ring(conn, endpoint_id, key)
    return len(ids)


async def _lock_waiting(conn: Conn, endpoint_id: UUID, key: str) -> list[UUID]:
    rows = await conn.execute(
        """SELECT id FROM live WHERE endpoint_id = %s AND lane = %s AND seq IS NOT NULL AND owner IS NULL
           ORDER BY seq LIMIT %s FOR UPDATE SKIP LOCKED""",
        (endpoint_id, key, AT_ONCE),
    )
    return [row[0] async for row in rows]


async def _ring(conn: Conn, endpoint_id: UUID, key: str) -> None:
    """The lane has another head, and a dead one blocks nothing any more."""
    await conn.execute(
        "UPDATE lanes SET blocked_by = NULL, ready_at = least(ready_at, now()) WHERE endpoint_id = %s AND key = %s",
        (endpoint_id, key),
    )
