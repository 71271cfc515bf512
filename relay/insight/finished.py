"""What ended, of what is stored: a sum per client, so that a total costs the same whatever the endpoints and days.

The sums are set from those of days, and say up to when they reach; later minutes stand in `stats`.
"""

from __future__ import annotations

from relay.db import Conn

_LOCK = 7013
#: The name in `counted` of the moment up to which the sums reach.
REACHES = "finished"


async def close(conn: Conn) -> None:
    """Set each client's sums from those of days; nothing while another process does it. To be called after days are closed."""
    async with conn.transaction():
        rows = await conn.execute("SELECT pg_try_advisory_xact_lock(%s)", (_LOCK,))
        if not (await rows.fetchall())[0][0]:
            return
        await conn.execute(
            """WITH f AS MATERIALIZED (
                   SELECT tenant_id, sum(delivered)::int8 AS delivered, sum(cancelled)::int8 AS cancelled
                   FROM stats WHERE grain = 'day' GROUP BY tenant_id),
               gone AS (
                   DELETE FROM finished_counts c WHERE NOT EXISTS (SELECT FROM f WHERE f.tenant_id = c.tenant_id)),
               reaches AS (
                   INSERT INTO counted (name, at) SELECT %s, at FROM counted WHERE name = 'stats_days'
                   ON CONFLICT (name) DO UPDATE SET at = excluded.at)
               INSERT INTO finished_counts AS c (tenant_id, delivered, cancelled)
               SELECT tenant_id, delivered, cancelled FROM f
               ON CONFLICT (tenant_id) DO UPDATE SET delivered = excluded.delivered, cancelled = excluded.cancelled
               WHERE (c.delivered, c.cancelled) <> (excluded.delivered, excluded.cancelled)""",
            (REACHES,),
        )
