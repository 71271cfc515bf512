"""Deliveries against their attempts, and the dead ones against the list of what nobody has settled."""

from __future__ import annotations

from uuid import UUID

from relay.db import Conn
from relay.delivery.outcomes import Reason
from relay.verify.findings import Check, Chunk, Found, Offender, found

#: What a delivery may die of without any attempt.
NEEDS_NO_ATTEMPT = (Reason.ENDPOINT_DISABLED, Reason.EXPIRED, Reason.WORKER_LOST, Reason.UNRECORDABLE)


async def bound(conn: Conn, chunk: Chunk, size: int) -> UUID:
    """Where the first `size` deliveries of the chunk end."""
    rows = await conn.execute(
        """SELECT id FROM (
               (SELECT id FROM live WHERE id > %(after)s AND id <= %(upto)s ORDER BY id LIMIT %(size)s)
               UNION ALL
               (SELECT id FROM history WHERE id > %(after)s AND id <= %(upto)s ORDER BY id LIMIT %(size)s)) d
           ORDER BY id OFFSET %(skip)s LIMIT 1""",
        {**chunk.parameters(), "size": size, "skip": size - 1},
        prepare=False,
    )
    row = await rows.fetchone()
    return row[0] if row else chunk.upto


async def delivered(conn: Conn, chunk: Chunk) -> Found:
    """Every delivered delivery has an attempt that was answered 2xx."""
    rows = await conn.execute(
        """SELECT h.id, count(*) OVER () FROM history h
           WHERE h.id > %(after)s AND h.id <= %(upto)s AND h.state = 'delivered' AND NOT EXISTS (
               SELECT FROM attempts a WHERE a.delivery_id = h.id AND a.status BETWEEN 200 AND 299
                 AND a.delivery_id > %(after)s AND a.delivery_id <= %(upto)s AND a.at >= %(oldest_at)s)
           ORDER BY h.id LIMIT %(listed)s""",
        chunk.parameters(),
        prepare=False,
    )
    return found(Check.DELIVERED, await rows.fetchall(), _unanswered)


def _unanswered(id: UUID) -> Offender:
    return Offender((str(id),), f"Delivery {id} is delivered, but no attempt of it was answered 2xx.")


async def dead(conn: Conn, chunk: Chunk) -> Found:
    """Every dead delivery has a last attempt, or a reason that needs none."""
    rows = await conn.execute(
        """SELECT h.id, h.reason, h.attempts, count(*) OVER () FROM history h
           WHERE h.id > %(after)s AND h.id <= %(upto)s AND h.state = 'dead' AND h.reason <> ALL(%(needs_none)s::text[])
             AND NOT EXISTS (
               SELECT FROM attempts a WHERE a.delivery_id = h.id AND a.n = h.attempts
                 AND a.delivery_id > %(after)s AND a.delivery_id <= %(upto)s AND a.at >= %(oldest_at)s)
           ORDER BY h.id LIMIT %(listed)s""",
        {**chunk.parameters(), "needs_none": list(NEEDS_NO_ATTEMPT)},
        prepare=False,
    )
    return found(Check.DEAD, await rows.fetchall(), _died_of_nothing)


def _died_of_nothing(id: UUID, reason: str, attempts: int) -> Offender:
    return Offender(
        (str(id),), f"Delivery {id} is dead ({reason}), but its last attempt, number {attempts}, is missing."
    )


async def attempted(conn: Conn, chunk: Chunk) -> Found:
    """A delivery counts as many attempts as are recorded; no attempt is without its delivery."""
    rows = await conn.execute(
        """SELECT coalesce(d.id, a.delivery_id), d.attempts, coalesce(a.n, 0), count(*) OVER ()
           FROM (SELECT id, attempts FROM live WHERE id > %(after)s AND id <= %(upto)s
                 UNION ALL SELECT id, attempts FROM history WHERE id > %(after)s AND id <= %(upto)s) d
           FULL JOIN (
               SELECT delivery_id, count(*) AS n FROM attempts
               WHERE delivery_id > %(after)s AND delivery_id <= %(upto)s AND at >= %(oldest_at)s GROUP BY 1) a
               ON a.delivery_id = d.id
           WHERE d.attempts IS DISTINCT FROM coalesce(a.n, 0)
           ORDER BY 1 LIMIT %(listed)s""",
        chunk.parameters(),
        prepare=False,
    )
    return found(Check.ATTEMPTS, await rows.fetchall(), _miscounted)


def _miscounted(id: UUID, counted: int | None, recorded: int) -> Offender:
    if counted is None:
        return Offender((str(id),), f"Delivery {id} has {recorded} attempts and does not exist.")
    return Offender((str(id),), f"Delivery {id} counts {counted} attempts, but {recorded} are recorded.")


async def letter_bound(conn: Conn, chunk: Chunk, size: int) -> UUID:
    """Where the first `size` dead letters of the chunk end."""
    rows = await conn.execute(
        "SELECT id FROM dead_letters WHERE id > %(after)s AND id <= %(upto)s ORDER BY id OFFSET %(skip)s LIMIT 1",
        {**chunk.parameters(), "skip": size - 1},
        prepare=False,
    )
    row = await rows.fetchone()
    return row[0] if row else chunk.upto


async def letters(conn: Conn, chunk: Chunk) -> Found:
    """What is on the list of dead letters is dead, and nobody has repeated it since it died.

    replayEvent with an endpoint repeats also what is on its way; when that dies later, it is not settled yet. The other
    direction cannot be told: cancelling a dead delivery takes it off the list and leaves no other trace.
    """
    rows = await conn.execute(
        """SELECT x.id, h.state, r.id, count(*) OVER () FROM dead_letters x
           LEFT JOIN (SELECT id, state FROM history WHERE id > %(after)s AND id <= %(upto)s) h ON h.id = x.id
           LEFT JOIN (
               SELECT DISTINCT ON (replay_of) replay_of, id, created_at FROM (
                   SELECT replay_of, id, created_at FROM live WHERE replay_of > %(after)s AND replay_of <= %(upto)s
                   UNION ALL
                   SELECT replay_of, id, created_at FROM history
                   WHERE replay_of > %(after)s AND replay_of <= %(upto)s AND id > %(oldest)s) s
               ORDER BY replay_of, created_at DESC) r ON r.replay_of = x.id AND r.created_at > x.died_at
           WHERE x.id > %(after)s AND x.id <= %(upto)s AND (h.state IS DISTINCT FROM 'dead' OR r.id IS NOT NULL)
           ORDER BY x.id LIMIT %(listed)s""",
        chunk.parameters(),
        prepare=False,
    )
    return found(Check.DEAD_LETTER, await rows.fetchall(), _no_letter)


def _no_letter(id: UUID, state: str | None, repeated_by: UUID | None) -> Offender:
    what = f"{repeated_by} repeats it" if repeated_by else f"it is {state}" if state else "the history has no such one"
    return Offender((str(id),), f"Delivery {id} is on the list of dead letters, but {what}.")
