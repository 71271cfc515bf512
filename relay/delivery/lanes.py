"""Lanes: where deliveries wait, and how they are handed, whole, to one worker.

Who adds work rings in the same transaction. Who takes work locks the lane first, reads rows in a second statement and
re-arms in a third: in one statement a lane can fall asleep with work in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from relay.db import Conn
from relay.delivery.live import FIFO, tier_of_lane
from relay.ids import fence
from relay.queue import Hint


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

    def hint(self) -> Hint:
        """The message that hands this lane to a worker."""
        return Hint("lane", {"endpoint": self.endpoint_id.hex, "key": self.key, "fence": self.fence})


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
    """Lock one ready lane of each of up to `limit` tenants, from the tenant after `after` on; the caller marks them.

    Returns endpoint, key and tenant. A loose index scan: its cost is the number of tenants taken, not of lanes that wait.
    """
    rows = await conn.execute(
        """WITH RECURSIVE t AS (
            (SELECT tenant_id, 1 AS n FROM lanes WHERE ready AND tier = %(tier)s AND tenant_id > %(after)s
             ORDER BY tenant_id LIMIT 1)
            UNION ALL
            SELECT (SELECT tenant_id FROM lanes WHERE ready AND tier = %(tier)s AND tenant_id > t.tenant_id
                    ORDER BY tenant_id LIMIT 1), n + 1
            FROM t WHERE t.tenant_id IS NOT NULL AND n < %(limit)s)
        SELECT l.endpoint_id, l.key, l.tenant_id
        FROM (SELECT tenant_id FROM t WHERE tenant_id IS NOT NULL) t
        CROSS JOIN LATERAL (
            SELECT endpoint_id, key, tenant_id FROM lanes
            WHERE ready AND tier = %(tier)s AND tenant_id = t.tenant_id
            ORDER BY ready_at LIMIT 1 FOR UPDATE SKIP LOCKED) l""",
        {"tier": tier, "after": after, "limit": limit},
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


async def hold(conn: Conn, lane: Lane, *, worker: int) -> bool:
    """Become the lane's holder; False when the message was a double or the lane is another's by now."""
    done = await conn.execute(
        "UPDATE lanes SET owner = %s WHERE endpoint_id = %s AND key = %s AND fence = %s AND owner IS NULL",
        (worker, lane.endpoint_id, lane.key, lane.fence),
    )
    return done.rowcount == 1


async def lock_to_release(conn: Conn, lane: Lane, *, worker: int) -> bool:
    """Lock the held lane for its release; False when it is no longer ours."""
    rows = await conn.execute(
        "SELECT 1 FROM lanes WHERE endpoint_id = %s AND key = %s AND fence = %s AND owner = %s FOR UPDATE",
        (lane.endpoint_id, lane.key, lane.fence, worker),
    )
    return await rows.fetchone() is not None


async def release(conn: Conn, lane: Lane, *, per_s: float | None = None) -> bool:
    """Let go of a lane locked by `lock_to_release`, to be ready when its next delivery is due; True when that is now.

    A FIFO lane's next is its head: while that is being sent, the lane sleeps until its record rings. `per_s`: how many
    deliveries a second its endpoint takes; the endpoint's lanes that wait for their turn then spread over the time that
    takes, for all of them coming back at once would be work for nothing.
    """
    rows = await conn.execute(
        """UPDATE lanes l SET owner = NULL, fence = NULL, sent_at = NULL, ready_at = CASE
               WHEN l.blocked_by IS NOT NULL OR n.due_at IS NULL THEN NULL
               ELSE greatest(n.due_at, now() + make_interval(secs => random() * n.lanes / %(per_s)s::float8)) END
           FROM (SELECT
                   CASE WHEN %(ordered)s
                        THEN (SELECT due_at FROM live WHERE endpoint_id = %(endpoint)s AND lane = %(key)s
                              AND seq IS NOT NULL ORDER BY seq LIMIT 1)
                        ELSE (SELECT min(due_at) FROM live WHERE endpoint_id = %(endpoint)s AND lane = %(key)s
                              AND due_at IS NOT NULL) END AS due_at,
                   CASE WHEN %(per_s)s::float8 IS NOT NULL
                        THEN (SELECT count(*) FROM lanes WHERE endpoint_id = %(endpoint)s
                              AND (ready OR fence IS NOT NULL OR ready_at <= now())) END AS lanes) n
           WHERE l.endpoint_id = %(endpoint)s AND l.key = %(key)s
           RETURNING coalesce(l.ready_at <= now(), false)""",
        {"endpoint": lane.endpoint_id, "key": lane.key, "ordered": lane.ordered, "per_s": per_s},
    )
    row = await rows.fetchone()
    return bool(row and row[0])


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
