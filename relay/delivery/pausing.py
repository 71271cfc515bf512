"""Pausing and resuming an endpoint. A pause holds, it drops nothing: deliveries are made and wait until the resume.

Both take two transactions. A pause commits the gate, then takes back what was handed out meanwhile: whoever claims after
that commit is refused. A resume opens the gate, then rings once more: a clock that looked before that commit may just
have put a lane to sleep.
"""

from __future__ import annotations

from uuid import UUID

from relay.db import Conn
from relay.delivery.live import TEST_LANE
from relay.delivery.outcomes import Reason
from relay.errors import Conflict, Invalid, NotFound
from relay.tenancy import tenants

_FASTEST_PER_SEC = 10_000


async def pause(conn: Conn, tenant_id: UUID, endpoint_id: UUID) -> None:
    """Hold back what waits for an endpoint; `take_back` follows after the commit. NotFound; Conflict for a disabled one."""
    if await _lock(conn, tenant_id, endpoint_id) == "disabled":
        raise Conflict("The endpoint is disabled; resume it first.")
    await conn.execute("UPDATE lanes SET paused = true WHERE endpoint_id = %s AND key = ''", (endpoint_id,))


async def take_back(conn: Conn, endpoint_id: UUID) -> int:
    """Return to their lanes the deliveries that were handed out and nobody claimed; test deliveries go on. How many?

    Waits for those that are being claimed at this moment, by who read the gate before it closed: they are in flight.
    """
    rows = await conn.execute(
        """WITH x AS MATERIALIZED (
            SELECT id FROM live
            WHERE endpoint_id = %s AND fence IS NOT NULL AND owner IS NULL AND lane <> %s
            ORDER BY id FOR UPDATE),
        w AS (
            UPDATE live l SET fence = NULL, sent_at = NULL, due_at = now(), reason = %s
            FROM x WHERE l.id = x.id AND l.owner IS NULL RETURNING l.endpoint_id, l.lane, l.tenant_id, l.tier),
        ring AS (
            INSERT INTO lanes (endpoint_id, key, tenant_id, tier, ready_at)
            SELECT DISTINCT endpoint_id, lane, tenant_id, tier, now() FROM w ORDER BY endpoint_id, lane
            ON CONFLICT (endpoint_id, key) DO UPDATE SET ready_at = least(lanes.ready_at, excluded.ready_at))
        SELECT count(*) FROM w""",
        (endpoint_id, TEST_LANE, Reason.PAUSED),
    )
    return (await rows.fetchall())[0][0]


async def resume(conn: Conn, tenant_id: UUID, endpoint_id: UUID, *, rate_per_sec: int | None = None) -> None:
    """Let an endpoint's deliveries go on, and enable it if it was disabled; `ring_lanes` follows after the commit.

    With a rate, what was created until now goes out at that rate. An open circuit stays open. Raises NotFound, Invalid.
    """
    if rate_per_sec is not None and not 1 <= rate_per_sec <= _FASTEST_PER_SEC:
        raise Invalid("ratePerSec must be between 1 and 10 000.", field="ratePerSec")
    status = await _lock(conn, tenant_id, endpoint_id)
    await conn.execute(
        """UPDATE lanes SET paused = false, pace_per_sec = %(rate)s::int,
               paced_at = CASE WHEN %(rate)s::int IS NOT NULL THEN now() END
           WHERE endpoint_id = %(endpoint)s AND key = ''""",
        {"endpoint": endpoint_id, "rate": rate_per_sec},
    )
    await ring_lanes(conn, endpoint_id)
    if status == "disabled":
        await _enable(conn, endpoint_id)
        await tenants.bump(conn, tenant_id)


async def ring_lanes(conn: Conn, endpoint_id: UUID) -> None:
    """Ring every lane of an endpoint, whatever it sleeps for."""
    await conn.execute(
        """WITH l AS MATERIALIZED (
               SELECT key FROM lanes WHERE endpoint_id = %(endpoint)s ORDER BY key FOR UPDATE)
           UPDATE lanes SET ready_at = least(lanes.ready_at, now())
           FROM l WHERE lanes.endpoint_id = %(endpoint)s AND lanes.key = l.key""",
        {"endpoint": endpoint_id},
    )


async def _enable(conn: Conn, endpoint_id: UUID) -> None:
    """Make it active; what failed before counts no more."""
    await conn.execute(
        """WITH f AS (DELETE FROM failing WHERE endpoint_id = %(endpoint)s)
           UPDATE endpoints SET status = 'active', disabled_reason = NULL, disabled_at = NULL, version = version + 1,
               updated_at = now()
           WHERE id = %(endpoint)s AND status = 'disabled'""",
        {"endpoint": endpoint_id},
    )


async def _lock(conn: Conn, tenant_id: UUID, endpoint_id: UUID) -> str:
    """Lock the endpoint until the commit, so that pausing, resuming and disabling come one after the other; its status."""
    rows = await conn.execute(
        """SELECT status FROM endpoints
           WHERE tenant_id = %s AND id = %s AND kind = 'subscribed' AND deleted_at IS NULL FOR UPDATE""",
        (tenant_id, endpoint_id),
    )
    row = await rows.fetchone()
    if row is None:
        raise NotFound("There is no endpoint with this id.")
    return row[0]
