"""Taking deliveries from held lanes: gates, rate limits and order are decided here, under locks, many lanes at once.

Who takes locks the lanes first and reads in a later statement. A rate limit is a time on the endpoint's '' lane (GCRA's
theoretical arrival time), moved on by what was taken: it holds for all workers together, and outlives Redis.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import floor
from typing import Any
from uuid import UUID

from relay.db import Conn
from relay.delivery.lanes import Lane
from relay.delivery.live import Claimed
from relay.ids import fence

#: A delivery that this many workers died with is sent while nothing else is.
SUSPECT_LOST = 2
#: The part of a burst that is waited for: less is more transactions, more is a rate lost to every delay.
_WORTH = 0.8


# Two forms are for the planner. It cannot know the outer LIMIT, and would read all of `live` where very many wait: the inner
# one tells it how few they are, and no more rows are locked than the outer one lets through. And what is due is asked as no
# index answers it where rows are found by id: a plan made in a quiet time would read all that waits for each of them.
_TAKE_DUE = """WITH s AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true)),
    w AS MATERIALIZED (
        SELECT u.i, u.key, u.row_fence, g.*, CASE WHEN u.probes THEN 1 WHEN g.closed THEN 0 ELSE u.n END AS n
        FROM s, unnest(%(endpoints)b::uuid[], %(keys)b::text[], %(fences)b::int8[], %(row_fences)b::int8[],
                       %(limits)b::int[], %(probes)b::bool[])
            WITH ORDINALITY AS u (endpoint_id, key, fence, row_fence, n, probes, i)
        JOIN lanes l ON l.endpoint_id = u.endpoint_id AND l.key = u.key AND l.fence = u.fence AND l.owner = %(worker)s
        JOIN gates g ON g.endpoint_id = u.endpoint_id),
    x AS MATERIALIZED (
        SELECT w.*, c.id, row_number() OVER (PARTITION BY w.endpoint_id ORDER BY c.due_at, c.id) AS place
        FROM w CROSS JOIN LATERAL (
            SELECT * FROM (SELECT id, due_at FROM live
                           WHERE endpoint_id = w.endpoint_id AND lane = w.key AND due_at <= now()
                           ORDER BY due_at LIMIT 1000 FOR UPDATE SKIP LOCKED) f LIMIT w.n) c),
    t AS (
        UPDATE live l SET due_at = NULL, fence = x.row_fence, owner = %(worker)s, sent_at = now() FROM x
        WHERE l.id = x.id AND l.fence IS NULL AND (l.due_at <= now()) IS TRUE
          AND (x.tokens IS NULL OR x.place <= x.tokens)
        RETURNING x.i, x.rate, l.id, l.fence, l.owner, l.tenant_id, l.event_id, l.endpoint_id, l.tier, l.lane,
                  l.attempts, l.lost, l.created_at, x.version, x.epoch, l.seq, l.replay_of),
    charged AS (UPDATE lanes l SET tat = greatest(l.tat, now()) + make_interval(secs => u.n / u.rate)
        FROM (SELECT endpoint_id, rate, count(*) AS n FROM t WHERE rate IS NOT NULL GROUP BY 1, 2) u
        WHERE l.endpoint_id = u.endpoint_id AND l.key = '')
    SELECT i, half_open, rate, burst, tokens, false, NULL::float8, NULL::uuid AS id, NULL::int8, NULL::int8, NULL::uuid,
           NULL::uuid, NULL::uuid, NULL::int2, NULL::text, NULL::int2, NULL::int2, NULL::timestamptz, NULL::int8,
           NULL::int8, NULL::int8, NULL::uuid FROM w
    UNION ALL
    SELECT i, NULL, NULL, NULL, NULL, NULL, NULL, id, fence, owner, tenant_id, event_id, endpoint_id, tier, lane,
           attempts, lost, created_at, version, epoch, seq, replay_of FROM t
    ORDER BY id NULLS FIRST"""


@dataclass(frozen=True, slots=True)
class Want:
    """What the holder of a lane asks for: up to `limit` deliveries that are due.

    `probes`: it is the endpoint's one probe, for its circuit is half open. `alone`: nothing else is being sent.
    `metered`: the endpoint is known to have a rate, which only one may use at a time.
    """

    lane: Lane
    limit: int = 1
    probes: bool = False
    alone: bool = False
    metered: bool = False

    @property
    def changes_gate(self) -> bool:
        """Whether to take for it changes its endpoint's gate, which others may then not even share."""
        return self.metered or self.probes


@dataclass(slots=True)
class Taken:
    """What a holder got, and what keeps it from more.

    `half_open`: a probe may pass. `suspect`: the head may be sent alone only. `wait_s`: seconds until the head of a FIFO
    lane is due, or the endpoint's rate allows a good part of a burst; None: nothing but time or a ring will tell.
    """

    claimed: list[Claimed] = field(default_factory=list[Claimed])
    half_open: bool = False
    suspect: bool = False
    wait_s: float | None = None
    rate: float | None = None


async def lock(conn: Conn, wants: Sequence[Want]) -> None:
    """Lock the endpoints' gates and the held lanes, in this order, until the transaction ends.

    Gates are shared, but for those that the transaction is to change. Of two that did not know of a rate, and want to move
    it on, Postgres lets one go on and repeats the other.
    """
    alone = [want.lane.endpoint_id for want in wants if want.changes_gate]
    rest = [want.lane for want in wants if want.lane.key or not want.changes_gate]
    if alone:
        await conn.execute(
            """SELECT 1 FROM lanes WHERE endpoint_id = ANY(%b::uuid[]) AND key = ''
               ORDER BY endpoint_id FOR NO KEY UPDATE""",
            (alone,),
        )
    if rest:
        await conn.execute(
            """SELECT 1 FROM lanes l JOIN (
                   SELECT DISTINCT endpoint_id, unnest(ARRAY['', key]) AS key
                   FROM unnest(%b::uuid[], %b::text[]) AS u (endpoint_id, key)) w USING (endpoint_id, key)
               ORDER BY l.endpoint_id, l.key FOR SHARE OF l""",
            ([lane.endpoint_id for lane in rest], [lane.key for lane in rest]),
        )


async def take_due(conn: Conn, wants: Sequence[Want], *, worker: int) -> list[Taken]:
    """Take what is due in ordinary lanes locked by `lock`, the oldest first; one answer for each want.

    Nothing from a lane that is not this worker's, or behind a closed gate; no more than the endpoint's rate allows, which
    moves on by what was taken. Commits asynchronously.
    """
    rows = await conn.execute(_TAKE_DUE, _parameters(wants, worker=worker))
    return _answers(wants, await rows.fetchall())


async def take_heads(conn: Conn, wants: Sequence[Want], *, worker: int) -> list[Taken]:
    """Take the heads of FIFO lanes locked by `lock`; one answer for each want.

    A lane's head is its smallest seq in any state: when that is being sent, or waits for a retry, the lane waits. Nothing
    from a lane that its dead head blocks, or whose head is locked: who cancels, retries or ends a delivery locks it before
    its lane, and rings. The head's commit is synchronous: order must survive a crash.
    """
    rows = await conn.execute(
        """WITH w AS MATERIALIZED (
            SELECT u.i, u.key, u.row_fence, g.*, u.probes OR NOT g.closed AS may_go, u.alone
            FROM unnest(%(endpoints)b::uuid[], %(keys)b::text[], %(fences)b::int8[], %(row_fences)b::int8[],
                        %(probes)b::bool[], %(alone)b::bool[])
                WITH ORDINALITY AS u (endpoint_id, key, fence, row_fence, probes, alone, i)
            JOIN lanes l ON l.endpoint_id = u.endpoint_id AND l.key = u.key AND l.fence = u.fence AND l.owner = %(worker)s
            JOIN gates g ON g.endpoint_id = u.endpoint_id WHERE l.blocked_by IS NULL),
        x AS MATERIALIZED (
            SELECT w.i, h.*, row_number() OVER (PARTITION BY w.endpoint_id ORDER BY h.due_at, h.id) AS place
            FROM w CROSS JOIN LATERAL (
                SELECT id, due_at, lost >= %(suspect)s AS suspect FROM live
                WHERE endpoint_id = w.endpoint_id AND lane = w.key AND seq IS NOT NULL ORDER BY seq LIMIT 1) h),
        k AS MATERIALIZED (SELECT l.id FROM x JOIN live l ON l.id = x.id
            WHERE l.fence IS NULL AND (l.due_at <= now()) IS TRUE FOR UPDATE OF l SKIP LOCKED),
        t AS (
            UPDATE live l SET due_at = NULL, fence = w.row_fence, owner = %(worker)s, sent_at = now()
            FROM x JOIN k USING (id) JOIN w USING (i)
            WHERE l.id = x.id AND l.fence IS NULL AND (l.due_at <= now()) IS TRUE AND w.may_go AND (w.alone OR NOT x.suspect)
              AND (w.tokens IS NULL OR x.place <= w.tokens)
            RETURNING w.i, l.id, l.fence, l.owner, l.tenant_id, l.event_id, l.endpoint_id, l.tier, l.lane, l.attempts,
                      l.lost, l.created_at, w.version, w.epoch, l.seq, l.replay_of),
        charged AS (UPDATE lanes l SET tat = greatest(l.tat, now()) + make_interval(secs => u.n / u.rate)
            FROM (SELECT t.endpoint_id, w.rate, count(*) AS n FROM t JOIN w USING (i) GROUP BY 1, 2) u
            WHERE l.endpoint_id = u.endpoint_id AND l.key = '' AND u.rate IS NOT NULL)
        SELECT w.i, w.half_open, w.rate, w.burst, w.tokens, x.suspect AND x.due_at <= now() AND w.may_go,
               nullif(greatest(extract(epoch FROM x.due_at - now())::float8, 0), 0), t.id, t.fence, t.owner, t.tenant_id,
               t.event_id, t.endpoint_id, t.tier, t.lane, t.attempts, t.lost, t.created_at, t.version, t.epoch, t.seq,
               t.replay_of
        FROM w LEFT JOIN x USING (i) LEFT JOIN t USING (i) ORDER BY w.i""",
        _parameters(wants, worker=worker),
    )
    return _answers(wants, await rows.fetchall())


async def give_up_probe(conn: Conn, endpoint_id: UUID) -> None:
    """Let somebody else probe: there was nothing to probe with."""
    await conn.execute("UPDATE lanes SET probe_until = NULL WHERE endpoint_id = %s AND key = ''", (endpoint_id,))


def _parameters(wants: Sequence[Want], *, worker: int) -> dict[str, Any]:
    return {
        "endpoints": [want.lane.endpoint_id for want in wants],
        "keys": [want.lane.key for want in wants],
        "fences": [want.lane.fence for want in wants],
        "row_fences": [fence() for _ in wants],
        "limits": [want.limit for want in wants],
        "probes": [want.probes for want in wants],
        "alone": [want.alone for want in wants],
        "worker": worker,
        "suspect": SUSPECT_LOST,
    }


def _answers(wants: Sequence[Want], rows: Sequence[tuple[Any, ...]]) -> list[Taken]:
    """One answer a want; what several lanes of a metered endpoint took counts for each of them."""
    used = Counter[UUID](wants[row[0] - 1].lane.endpoint_id for row in rows if row[7] is not None)
    answers = [Taken() for _ in wants]
    for i, half_open, rate, burst, tokens, suspect, due_in_s, *claimed in rows:
        answer = answers[i - 1]
        if half_open is not None:
            answer.half_open, answer.suspect, answer.wait_s, answer.rate = half_open, bool(suspect), due_in_s, rate
        if rate is not None:
            left = tokens - used[wants[i - 1].lane.endpoint_id]
            answer.wait_s = max(due_in_s or 0.0, (max(floor(_WORTH * burst), 1) - left) / rate, 0.0)
        if claimed[0] is not None:
            answer.claimed.append(Claimed(*claimed))
    return answers
