"""Endpoints of which nothing but failures is known: their client is told after 1, 3 and 4 days, and after 5 they are disabled.

Read from the sums per minute, which are caught up after an outage, and from where the last look ended: no success is
overlooked because no clock ran. Only endpoints a client made; nobody could enable the hidden ones of createEvent again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from relay.catalog.subscriptions import RESERVED
from relay.db import Conn
from relay.delivery import disabling, notices
from relay.delivery.notices import Notice
from relay.delivery.outcomes import Reason

NOTICE_DAYS = (1, 3, 4)
DISABLE_DAYS = 5
_DAY = timedelta(days=1)
#: No attempt for so long, and nothing is known of the endpoint: longer than the longest wait of the default retries.
SILENCE = timedelta(days=2)
#: Minutes that the sums may still change; longer than they are recomputed.
_SETTLES = timedelta(minutes=5)
#: Each disabling may end thousands of deliveries, and the clock waits for it.
_DISABLED_AT_ONCE = 5
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Due:
    endpoint_id: UUID
    tenant_id: UUID
    since: datetime
    days: int


def due_notice(since: datetime, last_at: datetime, *, told_days: int, now: datetime) -> int | None:
    """Return how many days of failures are to be told of now (5: disable); None when nothing is due.

    What counts is the span from the first failure to the last, with no success in between, and the last must be of the
    24 hours before `now`: an endpoint that failed once and then got nothing is not failing for days.
    """
    if now - last_at > _DAY:
        return None
    reached = [days for days in (*NOTICE_DAYS, DISABLE_DAYS) if last_at - since >= days * _DAY]
    return reached[-1] if reached and reached[-1] > told_days else None


async def note(conn: Conn, *, now: datetime) -> None:
    """Take in what the sums per minute say since the last time; a success, or two days of silence, end a span."""
    rows = await conn.execute(
        """SELECT s.at, date_trunc('minute', coalesce(f.at, s.at) - %s::interval)
           FROM counted s LEFT JOIN counted f ON f.name = 'failing' WHERE s.name = 'stats'""",
        (_SETTLES,),
    )
    row = await rows.fetchone()
    if row is None:
        return
    until, since = row
    await _end_spans(conn, since=since, now=now)
    await _add_failures(conn, since=max(since, now - SILENCE))
    await conn.execute(
        """INSERT INTO counted AS c (name, at) VALUES ('failing', %s)
           ON CONFLICT (name) DO UPDATE SET at = greatest(c.at, excluded.at)""",
        (until,),
    )


async def _end_spans(conn: Conn, *, since: datetime, now: datetime) -> None:
    await conn.execute(
        """DELETE FROM failing f
           WHERE f.last_at < %s
              OR NOT EXISTS (SELECT FROM endpoints e
                             WHERE e.id = f.endpoint_id AND e.status = 'active' AND e.deleted_at IS NULL)
              OR EXISTS (SELECT FROM stats s WHERE s.grain = 'minute' AND s.tenant_id = f.tenant_id
                           AND s.endpoint_id = f.endpoint_id AND s.at >= greatest(f.since, %s) AND s.ok > 0)""",
        (now - SILENCE, since),
    )


async def _add_failures(conn: Conn, *, since: datetime) -> None:
    """Begin a span with the first minute of failures after the last success, or go on with the one that is there."""
    await conn.execute(
        """WITH m AS MATERIALIZED (
               SELECT s.endpoint_id, s.tenant_id, s.at, s.ok FROM stats s JOIN endpoints e ON e.id = s.endpoint_id
               WHERE s.grain = 'minute' AND s.at >= %s AND s.attempts > 0
                 AND e.kind = 'subscribed' AND e.status = 'active' AND e.deleted_at IS NULL),
           good AS (SELECT endpoint_id, max(at) AS at FROM m WHERE ok > 0 GROUP BY endpoint_id)
           INSERT INTO failing AS f (endpoint_id, tenant_id, since, last_at)
           SELECT m.endpoint_id, m.tenant_id, min(m.at), max(m.at) FROM m LEFT JOIN good USING (endpoint_id)
           WHERE good.at IS NULL OR m.at > good.at
           GROUP BY 1, 2 ORDER BY 1
           ON CONFLICT (endpoint_id) DO UPDATE SET last_at = excluded.last_at WHERE f.last_at < excluded.last_at""",
        (since,),
    )


async def judge(conn: Conn, *, now: datetime) -> list[Notice]:
    """Disable endpoints whose days are over, a few at a time, and return what clients are to be told."""
    due = await _due(conn, now=now)
    if not due:
        return []
    silent = await _taking_only_notices(conn, due)
    failing = [one for one in due if one.days < DISABLE_DAYS]
    await _set_told(conn, failing)
    over = [one for one in due if one.days == DISABLE_DAYS][:_DISABLED_AT_ONCE]
    await disabling.lock(conn, (one.endpoint_id for one in over))
    said = [notices.failing(one.tenant_id, one.endpoint_id, since=one.since, days=one.days) for one in failing]
    said += [notice for one in over if (notice := await _give_up(conn, one)) is not None]
    return [notice for notice in said if notice.subject_id not in silent]


async def _due(conn: Conn, *, now: datetime) -> list[_Due]:
    rows = await conn.execute(
        """SELECT endpoint_id, tenant_id, since, last_at, told_days FROM failing WHERE last_at - since >= %s::interval
           ORDER BY tenant_id, endpoint_id FOR UPDATE SKIP LOCKED""",
        (NOTICE_DAYS[0] * _DAY,),
    )
    steps = [(row, due_notice(row[2], row[3], told_days=row[4], now=now)) async for row in rows]
    return [_Due(row[0], row[1], row[2], days) for row, days in steps if days is not None]


async def _set_told(conn: Conn, due: Sequence[_Due]) -> None:
    await conn.execute(
        """UPDATE failing f SET told_days = u.days FROM unnest(%s::uuid[], %s::int2[]) AS u (endpoint_id, days)
           WHERE f.endpoint_id = u.endpoint_id""",
        ([one.endpoint_id for one in due], [one.days for one in due]),
    )


async def _taking_only_notices(conn: Conn, due: Sequence[_Due]) -> set[UUID]:
    """Those to which nothing but notices goes: of deliveries of notices there are no notices."""
    rows = await conn.execute(
        """SELECT id FROM endpoints e WHERE id = ANY(%s::uuid[])
             AND NOT EXISTS (SELECT FROM unnest(e.event_types) p WHERE NOT starts_with(p, %s))""",
        ([one.endpoint_id for one in due], RESERVED),
    )
    return {row[0] async for row in rows}


async def _give_up(conn: Conn, due: _Due) -> Notice | None:
    await conn.execute("DELETE FROM failing WHERE endpoint_id = %s", (due.endpoint_id,))
    reason = await _last_failure(conn, due.endpoint_id)
    if not await disabling.disable(conn, due.tenant_id, due.endpoint_id, reason=reason):
        return None
    _LOG.warning(
        "endpoint %s is disabled after %s days of failures: %s",
        due.endpoint_id,
        due.days,
        reason.name,
        extra={"tenant_id": due.tenant_id, "endpoint_id": due.endpoint_id, "reason": reason.value},
    )
    return notices.disabled(due.tenant_id, due.endpoint_id, reason=reason)


async def _last_failure(conn: Conn, endpoint_id: UUID) -> Reason:
    """How the last attempt that is known ended; ATTEMPTS_EXHAUSTED when none is stored any more."""
    rows = await conn.execute(
        """SELECT reason FROM attempts WHERE reason <> 'ok' AND delivery_id = ANY(ARRAY(
               (SELECT id FROM live WHERE endpoint_id = %s AND due_at IS NOT NULL AND attempts > 0 LIMIT 1)
               UNION ALL
               (SELECT id FROM history WHERE endpoint_id = %s AND state = 'dead' AND attempts > 0
                ORDER BY id DESC LIMIT 1)))
           ORDER BY at DESC LIMIT 1""",
        (endpoint_id, endpoint_id),
    )
    row = await rows.fetchone()
    return Reason(row[0]) if row else Reason.ATTEMPTS_EXHAUSTED
