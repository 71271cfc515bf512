"""What was recorded in all, for ever: totals that never fall, whatever dies, and whatever retention takes away.

Minutes that nothing can change any more are added to the sum of those before them, in one statement with the moment up to
which it reaches; later ones stand in `stats`.
"""

from __future__ import annotations

from dataclasses import dataclass

from relay.db import Conn
from relay.insight.stats import SETTLES


@dataclass(frozen=True, slots=True)
class Totals:
    """Deliveries by how they ended, and attempts (`ok`: those answered 2xx), of all tenants; `per_s`: ends of late."""

    delivered: int
    dead: int
    cancelled: int
    attempts: int
    ok: int
    per_s: float


async def close(conn: Conn) -> None:
    """Add the minutes that have settled; do nothing to those that are added already."""
    await conn.execute(
        """WITH t AS MATERIALIZED (SELECT until FROM totals FOR UPDATE),
           u AS MATERIALIZED (SELECT date_trunc('minute', at - %s) AS until FROM counted WHERE name = 'stats'),
           m AS (
               SELECT coalesce(sum(delivered), 0) AS delivered, coalesce(sum(dead), 0) AS dead,
                      coalesce(sum(cancelled), 0) AS cancelled, coalesce(sum(attempts), 0) AS attempts,
                      coalesce(sum(ok), 0) AS ok
               FROM stats WHERE grain = 'minute' AND at >= (SELECT until FROM t) AND at < (SELECT until FROM u))
           UPDATE totals SET until = u.until, delivered = totals.delivered + m.delivered, dead = totals.dead + m.dead,
                  cancelled = totals.cancelled + m.cancelled, attempts = totals.attempts + m.attempts,
                  ok = totals.ok + m.ok
           FROM m, u WHERE totals.until < u.until""",
        (SETTLES,),
    )


async def read(conn: Conn) -> Totals:
    """Return the totals as last counted, and how many deliveries a second ended in this minute and the two before."""
    rows = await conn.execute(
        """WITH r AS (SELECT date_trunc('minute', now() - interval '2 min') AS since),
           s AS (  -- no minute of the last five is in totals, so the rate is read on the way
               SELECT coalesce(sum(delivered), 0) AS delivered, coalesce(sum(dead), 0) AS dead,
                      coalesce(sum(cancelled), 0) AS cancelled, coalesce(sum(attempts), 0) AS attempts,
                      coalesce(sum(ok), 0) AS ok,
                      coalesce(sum(delivered + dead + cancelled) FILTER (WHERE at >= (SELECT since FROM r)), 0)
                      / extract(epoch FROM now() - (SELECT since FROM r)) AS per_s
               FROM stats WHERE grain = 'minute' AND at >= (SELECT until FROM totals))
           SELECT (t.delivered + s.delivered)::int8, (t.dead + s.dead)::int8, (t.cancelled + s.cancelled)::int8,
                  (t.attempts + s.attempts)::int8, (t.ok + s.ok)::int8, s.per_s::float8 FROM totals t, s"""
    )
    return Totals(*(await rows.fetchall())[0])
