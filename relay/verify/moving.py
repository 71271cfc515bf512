"""What is under way: somebody who lives has it, or something will start it."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from relay.db import Conn
from relay.verify.findings import LISTED, Check, Found, Offender, found

#: Everything here heals within seconds; what has not after this time will not.
PATIENCE_S = 60


async def owned(conn: Conn) -> Found:
    """Nothing is owned by a worker that has not beaten for 60 s."""
    rows = await conn.execute(
        """SELECT o.id, o.owner, o.beat_at, count(*) OVER () FROM (
               SELECT l.id::text, l.owner, l.sent_at, w.beat_at FROM live l LEFT JOIN workers w ON w.no = l.owner
               WHERE l.fence IS NOT NULL AND l.owner IS NOT NULL
               UNION ALL
               SELECT l.endpoint_id || ' ' || l.key, l.owner, l.sent_at, w.beat_at
               FROM lanes l LEFT JOIN workers w ON w.no = l.owner
               WHERE l.fence IS NOT NULL AND l.owner IS NOT NULL) o
           WHERE o.sent_at < now() - make_interval(secs => %(patience)s)
             AND coalesce(o.beat_at < now() - make_interval(secs => %(patience)s), true)
           ORDER BY o.id LIMIT %(listed)s""",
        {"patience": PATIENCE_S, "listed": LISTED},
        prepare=False,
    )
    return found(Check.OWNER, await rows.fetchall(), _abandoned)


def _abandoned(what: str, owner: int, beat_at: object) -> Offender:
    since = f"has not beaten since {beat_at}" if beat_at else "does not exist"
    return Offender((*what.split(" ", 1), str(owner)), f"{_named(what)} is owned by worker {owner}, which {since}.")


async def unclaimed(conn: Conn) -> Found:
    """Nothing is handed out for more than 60 s without anybody taking it up."""
    rows = await conn.execute(
        """SELECT o.id, o.sent_at, count(*) OVER () FROM (
               SELECT id::text, sent_at FROM live WHERE fence IS NOT NULL AND owner IS NULL
               UNION ALL
               SELECT endpoint_id || ' ' || key, sent_at FROM lanes WHERE fence IS NOT NULL AND owner IS NULL) o
           WHERE o.sent_at < now() - make_interval(secs => %(patience)s)
           ORDER BY o.sent_at LIMIT %(listed)s""",
        {"patience": PATIENCE_S, "listed": LISTED},
        prepare=False,
    )
    return found(Check.UNCLAIMED, await rows.fetchall(), _not_taken_up)


def _not_taken_up(what: str, sent_at: object) -> Offender:
    return Offender(tuple(what.split(" ", 1)), f"{_named(what)} was handed out at {sent_at} and nobody took it up.")


def _named(what: str) -> str:
    """A delivery by its id, a lane by its endpoint and key."""
    endpoint_or_delivery, lane, key = what.partition(" ")
    return f"Lane '{key}' of endpoint {endpoint_or_delivery}" if lane else f"Delivery {endpoint_or_delivery}"


async def asleep(conn: Conn, lanes: Sequence[tuple[UUID, str]]) -> Found:
    """None of these lanes sleeps with something in it that has been due for 60 s.

    A lane that is rung, ready, handed out or held does not sleep. One behind a closed gate or a dead head has reason to,
    one of a metered endpoint wakes at its turn, and in a FIFO lane only the head, the smallest seq in any state, is due.
    """
    rows = await conn.execute(
        """SELECT u.endpoint_id, u.lane, d.id, d.due_at, count(*) OVER ()
           FROM unnest(%(endpoints)s::uuid[], %(lanes)s::text[]) AS u (endpoint_id, lane)
           CROSS JOIN LATERAL (
               (SELECT id, due_at FROM live WHERE u.lane NOT LIKE 'fifo:%%' AND endpoint_id = u.endpoint_id
                  AND lane = u.lane AND due_at IS NOT NULL ORDER BY due_at LIMIT 1)
               UNION ALL
               (SELECT id, due_at FROM live WHERE u.lane LIKE 'fifo:%%' AND endpoint_id = u.endpoint_id
                  AND lane = u.lane AND seq IS NOT NULL ORDER BY seq LIMIT 1)) d
           LEFT JOIN lanes l ON l.endpoint_id = u.endpoint_id AND l.key = u.lane
           LEFT JOIN gates g ON g.endpoint_id = u.endpoint_id
           WHERE d.due_at < now() - make_interval(secs => %(patience)s)
             AND (u.lane = 'test' OR NOT coalesce(g.closed, false))
             AND (l.endpoint_id IS NULL OR NOT l.ready AND l.fence IS NULL AND l.blocked_by IS NULL AND (
                  l.ready_at IS NULL OR g.rate IS NULL AND l.ready_at > now() + make_interval(secs => %(patience)s)))
           ORDER BY 1, 2 LIMIT %(listed)s""",
        {
            "endpoints": [endpoint_id for endpoint_id, _ in lanes],
            "lanes": [lane for _, lane in lanes],
            "patience": PATIENCE_S,
            "listed": LISTED,
        },
        prepare=False,
    )
    return found(Check.ASLEEP, await rows.fetchall(), _sleeps)


def _sleeps(endpoint_id: UUID, lane: str, id: UUID, due_at: object) -> Offender:
    what = f"Lane '{lane}' of endpoint {endpoint_id} sleeps without a gate"
    return Offender((str(endpoint_id), lane, str(id)), f"{what}, but delivery {id} has been due since {due_at}.")
