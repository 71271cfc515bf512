"""Lanes: where deliveries wait, and how they are handed, whole, to one worker.

Who adds work rings in the same transaction. Who takes work locks the lane first, reads rows in a second statement and
re-arms in a third: in one statement a lane can fall asleep with work in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from uuid import UUID

from relay.db import Conn
from relay.delivery.live import FIFO, tier_of_lane
from relay.ids import fence
from relay.queue import Hint

#: A message hands out up to so many lanes, and fewer where there are too few for so many messages.
_A_MESSAGE, _MESSAGES = 16, 8
#: A tenant may hold so many lanes a worker before it has to do with one at a time: more would only wait for its slots.
_MOST_HELD = 64


@dataclass(frozen=True, slots=True)
class Lane:
    """A lane under the fence with which it was handed out."""

    endpoint_id: UUID
    key: str
    fence: int

    @property
    def ordered(self) -> bool:
        """Whether its deliveries are sent one at a time, by their place in it."""
        return self.key.startswith(FIFO)

    @property
    def tier(self) -> int:
        """The tier of its deliveries."""
        return tier_of_lane(self.key)


def hints_for(lanes: Sequence[Lane]) -> list[Hint]:
    """Messages that hand these lanes to workers, in the order given: several a message, and messages for several workers."""
    size = min(_A_MESSAGE, max(1, ceil(len(lanes) / _MESSAGES)))
    return [
        Hint(
            "lane",
            {
                "endpoints": [lane.endpoint_id.hex for lane in part],
                "keys": [lane.key for lane in part],
                "fences": [lane.fence for lane in part],
            },
        )
        for start in range(0, len(lanes), size)
        for part in [lanes[start : start + size]]
    ]


async def promote(conn: Conn, *, limit: int = 2000) -> int:
    """Mark lanes whose time has come as ready; return how many."""
    done = await conn.execute(
        """UPDATE lanes l SET ready = true FROM (
               SELECT endpoint_id, key FROM lanes
               WHERE ready_at <= now() AND NOT ready AND fence IS NULL
               ORDER BY ready_at LIMIT %s FOR UPDATE SKIP LOCKED) x
           WHERE l.endpoint_id = x.endpoint_id AND l.key = x.key AND l.fence IS NULL AND NOT l.ready""",
        (limit,),
    )
    return done.rowcount


async def pick(conn: Conn, *, tier: int, after: UUID, limit: int) -> list[tuple[UUID, str, UUID]]:
    """Lock ready lanes of up to `limit` tenants, from the tenant after `after` on; the caller marks them.

    One of each, and more where they are few: as many as make up `limit`, while the tenant does not hold too many. Returns
    endpoint, key and tenant. A loose index scan: its cost is the number of lanes taken, not of those that wait.
    """
    rows = await conn.execute(
        """WITH RECURSIVE t AS (
            (SELECT tenant_id, 1 AS n FROM lanes WHERE ready AND tier = %(tier)s AND tenant_id > %(after)s
             ORDER BY tenant_id LIMIT 1)
            UNION ALL
            SELECT (SELECT tenant_id FROM lanes WHERE ready AND tier = %(tier)s AND tenant_id > t.tenant_id
                    ORDER BY tenant_id LIMIT 1), n + 1
            FROM t WHERE t.tenant_id IS NOT NULL AND n < %(limit)s),
        each AS MATERIALIZED (SELECT %(limit)s / greatest(count(tenant_id), 1) AS n FROM t),
        held AS MATERIALIZED (SELECT tenant_id, count(*) AS n FROM lanes WHERE fence IS NOT NULL GROUP BY 1)
        SELECT l.endpoint_id, l.key, l.tenant_id
        FROM (SELECT tenant_id FROM t WHERE tenant_id IS NOT NULL) t
        CROSS JOIN LATERAL (
            SELECT endpoint_id, key, tenant_id FROM lanes
            WHERE ready AND tier = %(tier)s AND tenant_id = t.tenant_id
            ORDER BY ready_at LIMIT CASE WHEN (SELECT n FROM each) <= 1 THEN 1 ELSE greatest(1, least(
                (SELECT n FROM each), %(most)s * greatest((SELECT count(*) FROM workers), 1)
                    - coalesce((SELECT n FROM held WHERE tenant_id = t.tenant_id), 0))) END
            FOR UPDATE SKIP LOCKED) l""",
        {"tier": tier, "after": after, "limit": limit, "most": _MOST_HELD},
    )
    return [(row[0], row[1], row[2]) async for row in rows]


async def hand_out(conn: Conn, picked: Sequence[tuple[UUID, str, UUID]]) -> list[Lane]:
    """Give picked lanes a fence, unless a gate or a dead head stands before them: then they sleep until that is over."""
    fences = [fence() for _ in picked]
    rows = await conn.execute(
        """UPDATE lanes l SET
               ready = false,
               fence = CASE WHEN g.opens_at IS NULL AND l.blocked_by IS NULL THEN u.fence END,
               sent_at = CASE WHEN g.opens_at IS NULL AND l.blocked_by IS NULL THEN now() END,
               ready_at = CASE WHEN l.blocked_by IS NULL THEN nullif(g.opens_at, 'infinity') END
           FROM unnest(%s::uuid[], %s::text[], %s::int8[]) AS u (endpoint_id, key, fence)
           CROSS JOIN LATERAL (
               SELECT gate_sleeps_until(paused, gate_reason, gate_until, probe_until) AS opens_at
               FROM lanes WHERE endpoint_id = u.endpoint_id AND key = '') g
           WHERE l.endpoint_id = u.endpoint_id AND l.key = u.key AND l.ready AND l.fence IS NULL
           RETURNING l.endpoint_id, l.key, l.fence""",
        ([one[0] for one in picked], [one[1] for one in picked], fences),
    )
    return [Lane(*row) async for row in rows if row[2] is not None]


async def hold(conn: Conn, lanes: Sequence[Lane], *, worker: int) -> list[Lane]:
    """Become the holder of these lanes, but for those whose message was a double or that are another's by now."""
    rows = await conn.execute(
        """WITH x AS MATERIALIZED (
            SELECT l.endpoint_id, l.key, l.fence FROM lanes l
            JOIN unnest(%b::uuid[], %b::text[], %b::int8[]) AS u (endpoint_id, key, fence) USING (endpoint_id, key)
            WHERE l.fence = u.fence AND l.owner IS NULL ORDER BY 1, 2 FOR UPDATE OF l)
        UPDATE lanes l SET owner = %s FROM x
        WHERE l.endpoint_id = x.endpoint_id AND l.key = x.key AND l.fence = x.fence AND l.owner IS NULL
        RETURNING l.endpoint_id, l.key, l.fence""",
        (*_columns(lanes), worker),
    )
    return [Lane(*row) async for row in rows]


async def lock_to_release(conn: Conn, lanes: Sequence[Lane], *, worker: int) -> list[Lane]:
    """Lock held lanes for their release; return those that are still ours."""
    rows = await conn.execute(
        """SELECT l.endpoint_id, l.key, l.fence FROM lanes l
           JOIN unnest(%b::uuid[], %b::text[], %b::int8[]) AS u (endpoint_id, key, fence) USING (endpoint_id, key)
           WHERE l.fence = u.fence AND l.owner = %s ORDER BY 1, 2 FOR UPDATE OF l""",
        (*_columns(lanes), worker),
    )
    return [Lane(*row) async for row in rows]


async def release(conn: Conn, lanes: Sequence[Lane], *, per_s: Mapping[Lane, float] | None = None) -> list[Lane]:
    """Let go of lanes locked by `lock_to_release`, each to be ready when its next delivery is due; return those due now.

    A FIFO lane's next is its head: while that is being sent, the lane sleeps until its record rings. `per_s`: how many
    deliveries a second an endpoint takes; its lanes that wait for their turn then spread over the time that takes, for all
    of them coming back at once would be work for nothing.
    """
    rates = [per_s.get(lane) for lane in lanes] if per_s else [None] * len(lanes)
    rows = await conn.execute(
        """UPDATE lanes l SET owner = NULL, fence = NULL, sent_at = NULL, ready_at = CASE
               WHEN l.blocked_by IS NOT NULL OR n.due_at IS NULL THEN NULL
               ELSE greatest(n.due_at, now() + make_interval(secs => random() * n.lanes / n.per_s)) END
           FROM (SELECT u.*,
                   CASE WHEN u.ordered
                        THEN (SELECT due_at FROM live WHERE endpoint_id = u.endpoint_id AND lane = u.key
                              AND seq IS NOT NULL ORDER BY seq LIMIT 1)
                        ELSE (SELECT min(due_at) FROM live WHERE endpoint_id = u.endpoint_id AND lane = u.key
                              AND due_at IS NOT NULL) END AS due_at,
                   CASE WHEN u.per_s IS NOT NULL
                        THEN (SELECT count(*) FROM lanes WHERE endpoint_id = u.endpoint_id
                              AND (ready OR fence IS NOT NULL OR ready_at <= now())) END AS lanes
                 FROM unnest(%b::uuid[], %b::text[], %b::int8[], %b::bool[], %b::float8[])
                      AS u (endpoint_id, key, fence, ordered, per_s)) n
           WHERE l.endpoint_id = n.endpoint_id AND l.key = n.key AND l.fence = n.fence
           RETURNING l.endpoint_id, l.key, n.fence, coalesce(l.ready_at <= now(), false)""",
        (*_columns(lanes), [lane.ordered for lane in lanes], rates),
    )
    return [Lane(*row[:3]) async for row in rows if row[3]]


async def end_pace(conn: Conn, endpoint_id: UUID) -> None:
    """End the pace that a resume asked for, once nothing waits of what it was for."""
    await conn.execute(
        """UPDATE lanes l SET pace_per_sec = NULL, paced_at = NULL
           WHERE endpoint_id = %s AND key = '' AND pace_per_sec IS NOT NULL AND NOT EXISTS (
               SELECT 1 FROM live WHERE endpoint_id = l.endpoint_id AND due_at IS NOT NULL AND created_at < l.paced_at)""",
        (endpoint_id,),
    )


async def unclaimed(conn: Conn, *, silent_s: float, more_than: int, limit: int = 1000) -> list[Lane]:
    """Lanes handed out more than `silent_s` seconds ago that no worker holds, as if handed out now.

    None unless more than `more_than` lanes, the messages still in the queue, are unclaimed.
    """
    rows = await conn.execute(
        """UPDATE lanes l SET sent_at = now() FROM (
               SELECT endpoint_id, key, fence FROM lanes
               WHERE fence IS NOT NULL AND owner IS NULL AND sent_at < now() - make_interval(secs => %s)
                 AND (SELECT count(*) FROM lanes WHERE fence IS NOT NULL AND owner IS NULL) > %s
               ORDER BY endpoint_id, key LIMIT %s FOR UPDATE SKIP LOCKED) x
           WHERE l.endpoint_id = x.endpoint_id AND l.key = x.key AND l.fence = x.fence AND l.owner IS NULL
           RETURNING l.endpoint_id, l.key, l.fence""",
        (silent_s, more_than, limit),
    )
    return [Lane(*row) async for row in rows]


async def held(conn: Conn, worker: int) -> list[Lane]:
    """The lanes that Postgres thinks this worker holds."""
    rows = await conn.execute(
        "SELECT endpoint_id, key, fence FROM lanes WHERE fence IS NOT NULL AND owner = %s", (worker,)
    )
    return [Lane(*row) async for row in rows]


async def give_back(conn: Conn, *, worker: int, only: Sequence[Lane] | None = None) -> int:
    """Return a worker's lanes (or `only` some), ready now; the rows they hold go back by `live.give_back`."""
    done = await conn.execute(
        """UPDATE lanes l SET owner = NULL, fence = NULL, sent_at = NULL, ready_at = now() FROM (
               SELECT endpoint_id, key FROM lanes y WHERE fence IS NOT NULL AND owner = %s
                 AND (%s::int8[] IS NULL OR fence = ANY(%s::int8[]))
               ORDER BY endpoint_id, key FOR UPDATE) x
           WHERE l.endpoint_id = x.endpoint_id AND l.key = x.key AND l.owner = %s""",
        (worker, *(2 * [None if only is None else [lane.fence for lane in only]]), worker),
    )
    return done.rowcount


async def rearm_sleepers(conn: Conn) -> int:
    """Ring lanes that sleep although deliveries wait in them; return how many, which must stay 0.

    What waits for a gate, for its lane's head or behind a dead one has reason to sleep.
    """
    done = await conn.execute(
        """INSERT INTO lanes (endpoint_id, key, tenant_id, tier, ready_at)
           SELECT w.endpoint_id, w.lane, w.tenant_id, w.tier, w.due_at
           FROM ((SELECT DISTINCT ON (endpoint_id, lane) endpoint_id, lane, tenant_id, tier, due_at
                  FROM live WHERE due_at < now() - interval '5 s' AND seq IS NULL
                  ORDER BY endpoint_id, lane, due_at)
                 UNION ALL
                 (SELECT DISTINCT ON (endpoint_id, lane) endpoint_id, lane, tenant_id, tier, due_at
                  FROM live WHERE seq IS NOT NULL ORDER BY endpoint_id, lane, seq)) w
           LEFT JOIN lanes l ON l.endpoint_id = w.endpoint_id AND l.key = w.lane
           LEFT JOIN lanes g ON g.endpoint_id = w.endpoint_id AND g.key = ''
           WHERE w.due_at < now() - interval '5 s' AND (l.endpoint_id IS NULL
              OR (l.ready_at IS NULL AND NOT l.ready AND l.fence IS NULL AND l.blocked_by IS NULL
                  AND NOT coalesce(g.paused, false)))
           ORDER BY w.endpoint_id, w.lane
           ON CONFLICT (endpoint_id, key) DO UPDATE SET ready_at = least(lanes.ready_at, excluded.ready_at)"""
    )
    return done.rowcount


async def count_unclaimed(conn: Conn, *, tier: int) -> int:
    """Lanes of a tier that are handed out and held by nobody yet."""
    rows = await conn.execute(
        "SELECT count(*) FROM lanes WHERE fence IS NOT NULL AND owner IS NULL AND tier = %s", (tier,)
    )
    row = await rows.fetchone()
    return row[0] if row else 0


async def with_waiting(conn: Conn, *, after: tuple[UUID, str], limit: int) -> list[tuple[UUID, str]]:
    """Up to `limit` lanes in which deliveries wait, whether there is a row for them or not, from the one after `after` on.

    Endpoint and key, in this order. A loose index scan: its cost is the number of lanes, not of deliveries.
    """
    rows = await conn.execute(
        """WITH RECURSIVE t AS (
            (SELECT endpoint_id, lane, 1 AS n FROM live
             WHERE due_at IS NOT NULL AND (endpoint_id, lane) > (%(endpoint)s, %(key)s)
             ORDER BY endpoint_id, lane LIMIT 1)
            UNION ALL
            SELECT x.endpoint_id, x.lane, t.n + 1 FROM t CROSS JOIN LATERAL (
                SELECT endpoint_id, lane FROM live
                WHERE due_at IS NOT NULL AND (endpoint_id, lane) > (t.endpoint_id, t.lane)
                ORDER BY endpoint_id, lane LIMIT 1) x
            WHERE t.n < %(limit)s)
        SELECT endpoint_id, lane FROM t""",
        {"endpoint": after[0], "key": after[1], "limit": limit},
    )
    return [(row[0], row[1]) async for row in rows]


def _columns(lanes: Sequence[Lane]) -> tuple[list[object], ...]:
    return [lane.endpoint_id for lane in lanes], [lane.key for lane in lanes], [lane.fence for lane in lanes]
