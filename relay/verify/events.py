"""Events against what became of them: outbox, schedule, proof of fan-out, and the deliveries that it made."""

from __future__ import annotations

from uuid import UUID

from relay.db import Conn
from relay.verify.findings import LISTED, Check, Chunk, Found, Offender, found


async def bound(conn: Conn, chunk: Chunk, size: int) -> UUID:
    """Where the first `size` events of the chunk end."""
    rows = await conn.execute(
        "SELECT id FROM events WHERE id > %(after)s AND id <= %(upto)s ORDER BY id OFFSET %(skip)s LIMIT 1",
        {**chunk.parameters(), "skip": size - 1},
        prepare=False,
    )
    row = await rows.fetchone()
    return row[0] if row else chunk.upto


async def placed(conn: Conn, chunk: Chunk) -> Found:
    """Every event has exactly one of an outbox, a scheduled and a fanouts row."""
    rows = await conn.execute(
        """SELECT e.id, coalesce(o.n, 0), coalesce(s.n, 0), coalesce(f.n, 0), count(*) OVER ()
           FROM events e
           LEFT JOIN (SELECT event_id, count(*) AS n FROM outbox WHERE event_id > %(after)s AND event_id <= %(upto)s
                      GROUP BY 1) o ON o.event_id = e.id
           LEFT JOIN (SELECT event_id, 1 AS n FROM scheduled WHERE event_id > %(after)s AND event_id <= %(upto)s) s
               ON s.event_id = e.id
           LEFT JOIN (SELECT event_id, 1 AS n FROM fanouts WHERE event_id > %(after)s AND event_id <= %(upto)s) f
               ON f.event_id = e.id
           WHERE e.id > %(after)s AND e.id <= %(upto)s AND coalesce(o.n, 0) + coalesce(s.n, 0) + coalesce(f.n, 0) <> 1
           ORDER BY e.id LIMIT %(listed)s""",
        chunk.parameters(),
        prepare=False,
    )
    return found(Check.EVENT, await rows.fetchall(), _misplaced)


def _misplaced(id: UUID, outbox: int, scheduled: int, fanouts: int) -> Offender:
    places = f"{outbox} outbox, {scheduled} scheduled and {fanouts} fanouts rows"
    return Offender((str(id),), f"Event {id} has {places}; it must have exactly one.")


async def matched(conn: Conn, chunk: Chunk) -> Found:
    """A fan-out's count is that of the deliveries it made, wherever they are now; none is without a fan-out."""
    rows = await conn.execute(
        """WITH made AS MATERIALIZED (
               SELECT event_id, count(*) AS n FROM (
                   SELECT event_id FROM live WHERE event_id > %(after)s AND event_id <= %(upto)s AND first
                   UNION ALL
                   SELECT event_id FROM history
                   WHERE event_id > %(after)s AND event_id <= %(upto)s AND id > %(oldest)s AND first) d
               GROUP BY 1)
           SELECT coalesce(f.event_id, m.event_id), f.matched, coalesce(m.n, 0), count(*) OVER ()
           FROM (SELECT event_id, matched FROM fanouts WHERE event_id > %(after)s AND event_id <= %(upto)s) f
           FULL JOIN made m ON m.event_id = f.event_id
           WHERE f.matched IS DISTINCT FROM coalesce(m.n, 0)
           ORDER BY 1 LIMIT %(listed)s""",
        chunk.parameters(),
        prepare=False,
    )
    return found(Check.FANOUT, await rows.fetchall(), _mismatched)


def _mismatched(id: UUID, promised: int | None, made: int) -> Offender:
    if promised is None:
        return Offender((str(id),), f"Event {id} has {made} deliveries and no fan-out that made them.")
    return Offender((str(id),), f"Event {id} was matched by {promised} endpoints and has {made} first deliveries.")


async def set_aside(conn: Conn) -> Found:
    """Events that could not be fanned out wait for somebody to act."""
    rows = await conn.execute(
        """SELECT event_id, failed_reason, count(*) OVER () FROM outbox WHERE failed_reason IS NOT NULL
           ORDER BY n LIMIT %s""",
        (LISTED,),
        prepare=False,
    )
    return found(Check.SET_ASIDE, await rows.fetchall(), _aside)


def _aside(id: UUID, reason: str) -> Offender:
    return Offender((str(id),), f"Event {id} could not be fanned out and is set aside: {reason}.")
