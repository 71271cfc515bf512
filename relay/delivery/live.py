"""Deliveries that are not final: waiting in a lane, dispatched under a fence, or owned by a worker that sends them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from relay.db import Conn
from relay.delivery.outcomes import Reason
from relay.queue import Hint

TIERS = ("high", "normal", "low")
BATCH = 100
#: The lane of test deliveries, which no gate holds back, and what the keys of FIFO lanes begin with.
TEST_LANE = "test"
FIFO = "fifo:"


@dataclass(frozen=True, slots=True)
class Planned:
    """A delivery that fan-out makes. `fence` is used if it may be sent at once; one with an order never is."""

    id: UUID
    tenant_id: UUID
    event_id: UUID
    endpoint_id: UUID
    tier: int
    lane: str
    fence: int
    waits: bool = False


@dataclass(frozen=True, slots=True)
class Dispatched:
    """A delivery and the fence under which it was handed out."""

    id: UUID
    fence: int
    tier: int = 1


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery that this worker owns, and must record or give back.

    `seq`: its place in a FIFO lane. `epoch`: the endpoint's gate epoch under which it is sent; an outcome counts for the
    circuit in that epoch only.
    """

    id: UUID
    fence: int
    owner: int
    tenant_id: UUID
    event_id: UUID
    endpoint_id: UUID
    tier: int
    lane: str
    attempts: int
    lost: int
    created_at: datetime
    endpoint_version: int
    epoch: int = 0
    seq: int | None = None
    replay_of: UUID | None = None

    @property
    def ids(self) -> dict[str, UUID]:
        """Whom a line of the log about it is about."""
        return {
            "tenant_id": self.tenant_id,
            "endpoint_id": self.endpoint_id,
            "event_id": self.event_id,
            "delivery_id": self.id,
        }


def tier_of(priority: int) -> int:
    """The tier of a priority: 1 to 3 high, 4 to 7 normal, 8 to 10 low."""
    return 0 if priority <= 3 else 1 if priority <= 7 else 2


def lane_of(tier: int) -> str:
    """The lane in which an ordinary delivery of a tier waits; the normal one also bears the endpoint's gates."""
    return ("high", "", "low")[tier]


def tier_of_lane(key: str) -> int:
    """The tier of a lane's deliveries; those of FIFO lanes are all normal."""
    return {"high": 0, TEST_LANE: 0, "low": 2}.get(key, 1)


def hints_for(dispatched: Sequence[Dispatched]) -> list[Hint]:
    """Messages of at most 100 deliveries each, by tier, in the order given."""
    hints: list[Hint] = []
    for tier, name in enumerate(TIERS):
        mine = [one for one in dispatched if one.tier == tier]
        for start in range(0, len(mine), BATCH):
            part = mine[start : start + BATCH]
            hints.append(
                Hint(f"deliver_{name}", {"ids": [one.id.hex for one in part], "fences": [one.fence for one in part]})
            )
    return hints


async def insert(conn: Conn, planned: Sequence[Planned], *, window: int) -> list[Dispatched]:
    """Store new deliveries, in order, and return those that go out at once; the others wait, and their lanes are rung.

    At once goes what need not wait, finds nothing due in its lane, no gate and no rate limit at its endpoint, while fewer
    than `window` dispatched deliveries are unclaimed in the whole system.
    """
    rows = await conn.execute(
        """WITH r AS MATERIALIZED (
            SELECT *, lane LIKE 'fifo:%%' AS ordered FROM unnest(%b::uuid[], %b::uuid[], %b::uuid[], %b::uuid[], %b::int2[],
                %b::text[], %b::int8[], %b::bool[])
                WITH ORDINALITY AS r (id, tenant_id, event_id, endpoint_id, tier, lane, fence, waits, i)),
        closed AS MATERIALIZED (
            SELECT endpoint_id,
                bool_or(key = '' AND (gate_closed(paused, gate_reason, gate_until) OR pace_per_sec IS NOT NULL
                    OR (SELECT rate_limit_per_sec > 0 FROM endpoints WHERE id = endpoint_id))) AS gated,
                array_agg(key) FILTER (WHERE ready OR fence IS NOT NULL OR ready_at <= now()) AS busy
            FROM lanes WHERE endpoint_id = ANY(ARRAY(SELECT DISTINCT endpoint_id FROM r WHERE NOT waits)) GROUP BY 1),
        room AS MATERIALIZED (
            SELECT %s - count(*) AS n FROM (SELECT 1 FROM live WHERE fence IS NOT NULL AND owner IS NULL LIMIT %s) x),
        d AS MATERIALIZED (
            SELECT r.*, NOT waits AND row_number() OVER (ORDER BY r.i) <= (SELECT n FROM room)
                AND NOT coalesce(c.gated OR r.lane = ANY(c.busy), false) AS go
            FROM r LEFT JOIN closed c USING (endpoint_id)),
        ring AS (
            INSERT INTO lanes (endpoint_id, key, tenant_id, tier, ready_at, next_seq)
            SELECT endpoint_id, lane, tenant_id, tier, now(), 1 + count(*) FILTER (WHERE ordered) FROM d WHERE NOT go
            GROUP BY 1, 2, 3, 4 ORDER BY endpoint_id, lane
            ON CONFLICT (endpoint_id, key) DO UPDATE SET ready_at = least(lanes.ready_at, excluded.ready_at),
                next_seq = lanes.next_seq + excluded.next_seq - 1, used_at = now()
            RETURNING endpoint_id, key, next_seq)
        INSERT INTO live (id, tenant_id, event_id, endpoint_id, tier, lane, seq, due_at, fence, sent_at)
        SELECT d.id, d.tenant_id, d.event_id, d.endpoint_id, d.tier, d.lane,
               CASE WHEN ordered THEN next_seq - row_number() OVER (PARTITION BY d.endpoint_id, d.lane ORDER BY d.i DESC) END,
               CASE WHEN go THEN NULL ELSE now() END, CASE WHEN go THEN fence END, CASE WHEN go THEN now() END
        FROM d LEFT JOIN ring n ON n.endpoint_id = d.endpoint_id AND n.key = d.lane ORDER BY d.i
        RETURNING id, fence, tier""",
        (*_columns(planned), window, window),
    )
    return [Dispatched(*row) for row in await rows.fetchall() if row[1] is not None]


def _columns(planned: Sequence[Planned]) -> tuple[list[object], ...]:
    return (
        [one.id for one in planned],
        [one.tenant_id for one in planned],
        [one.event_id for one in planned],
        [one.endpoint_id for one in planned],
        [one.tier for one in planned],
        [one.lane for one in planned],
        [one.fence for one in planned],
        [one.waits for one in planned],
    )


async def claim(conn: Conn, dispatched: Sequence[Dispatched], *, worker: int) -> list[Claimed]:
    """Take what is still ours to send; what is not returned was cancelled, taken by another worker, or is a doubled message.

    Nothing of an endpoint whose gate is closed, its test deliveries aside: whoever closes a gate takes back what nobody
    has claimed, and this is what keeps the rest from being claimed. Commits asynchronously: a claim that a crash of
    Postgres forgets is given out again.
    """
    rows = await conn.execute(
        """WITH s AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true)),
        u AS MATERIALIZED (SELECT u.* FROM s, unnest(%b::uuid[], %b::int8[]) AS u (id, fence))
        UPDATE live l SET owner = %s FROM u, endpoints e, lanes g
        WHERE l.id = u.id AND l.fence = u.fence AND l.owner IS NULL AND e.id = l.endpoint_id
          AND g.endpoint_id = l.endpoint_id AND g.key = ''
          AND (l.lane = 'test' OR NOT gate_closed(g.paused, g.gate_reason, g.gate_until))
        RETURNING l.id, l.fence, l.owner, l.tenant_id, l.event_id, l.endpoint_id, l.tier, l.lane, l.attempts, l.lost,
                  l.created_at, e.version, g.gate_epoch, l.seq, l.replay_of""",
        ([one.id for one in dispatched], [one.fence for one in dispatched], worker),
    )
    return [Claimed(*row) for row in await rows.fetchall()]


async def put_back(conn: Conn, claimed: Sequence[Claimed]) -> None:
    """Return owned deliveries, none of which was sent, to their lanes, due now, and ring those; no attempt is counted.

    What another worker owns by now is left to it: after a crash that forgot the claim it may hold the same fence.
    """
    await conn.execute(
        """WITH s AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true)),
        u AS MATERIALIZED (SELECT u.* FROM s, unnest(%b::uuid[], %b::int8[], %b::int8[]) AS u (id, fence, owner)),
        w AS (
            UPDATE live l SET fence = NULL, owner = NULL, sent_at = NULL, due_at = now(), reason = coalesce(l.reason, %s)
            FROM u WHERE l.id = u.id AND l.fence = u.fence AND (l.owner IS NULL OR l.owner = u.owner)
            RETURNING l.endpoint_id, l.lane, l.tenant_id, l.tier)
        INSERT INTO lanes (endpoint_id, key, tenant_id, tier, ready_at)
        SELECT DISTINCT endpoint_id, lane, tenant_id, tier, now() FROM w ORDER BY endpoint_id, lane
        ON CONFLICT (endpoint_id, key) DO UPDATE SET ready_at = least(lanes.ready_at, excluded.ready_at)""",
        ([one.id for one in claimed], [one.fence for one in claimed], [one.owner for one in claimed], Reason.BUSY),
    )


async def unclaimed(conn: Conn, *, silent_s: float, more_than: int, limit: int = 2000) -> list[Dispatched]:
    """Deliveries handed out more than `silent_s` seconds ago that no worker has claimed, as if handed out now.

    None unless more than `more_than` deliveries, the messages still in the queue, are unclaimed.
    """
    rows = await conn.execute(
        """UPDATE live l SET sent_at = now() FROM (
               SELECT id, fence FROM live
               WHERE fence IS NOT NULL AND owner IS NULL AND sent_at < now() - make_interval(secs => %s)
                 AND (SELECT count(*) FROM live WHERE fence IS NOT NULL AND owner IS NULL) > %s
               ORDER BY sent_at LIMIT %s FOR UPDATE SKIP LOCKED) x
           WHERE l.id = x.id AND l.fence = x.fence AND l.owner IS NULL
           RETURNING l.id, l.fence, l.tier""",
        (silent_s, more_than, limit),
    )
    return [Dispatched(*row) async for row in rows]


async def owned(conn: Conn, worker: int) -> list[tuple[UUID, int]]:
    """What Postgres thinks this worker holds: id and fence."""
    rows = await conn.execute("SELECT id, fence FROM live WHERE fence IS NOT NULL AND owner = %s", (worker,))
    return [(row[0], row[1]) async for row in rows]


async def give_back(conn: Conn, *, worker: int, only: Sequence[tuple[UUID, int]] | None = None, lost: int = 0) -> int:
    """Return a worker's deliveries (or `only` some) to their lanes, due now, and ring those; `lost` is added to each.

    One that is being recorded at this moment is left to its record, which locks in the other order: delivery, then lane.
    """
    done = await conn.execute(
        """WITH x AS MATERIALIZED (
            SELECT id FROM live l WHERE fence IS NOT NULL AND owner = %s
              AND (%b::uuid[] IS NULL OR EXISTS (
                  SELECT 1 FROM unnest(%b::uuid[], %b::int8[]) AS u (id, fence) WHERE u.id = l.id AND u.fence = l.fence))
            ORDER BY id FOR UPDATE SKIP LOCKED),
        w AS (
            UPDATE live l SET fence = NULL, owner = NULL, sent_at = NULL, due_at = now(), lost = l.lost + %s
            FROM x WHERE l.id = x.id RETURNING l.endpoint_id, l.lane, l.tenant_id, l.tier),
        r AS (
            INSERT INTO lanes (endpoint_id, key, tenant_id, tier, ready_at)
            SELECT DISTINCT endpoint_id, lane, tenant_id, tier, now() FROM w ORDER BY endpoint_id, lane
            ON CONFLICT (endpoint_id, key) DO UPDATE SET ready_at = least(lanes.ready_at, excluded.ready_at))
        SELECT count(*) FROM w""",
        (
            worker,
            None if only is None else [id for id, _ in only],
            [id for id, _ in only or ()],
            [fence for _, fence in only or ()],
            lost,
        ),
    )
    row = await done.fetchone()
    return row[0] if row else 0
