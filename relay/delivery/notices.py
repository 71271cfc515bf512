"""Notices: what Relay tells a client about its endpoints and jobs. They are events of that client, accepted like any other.

A subject (an endpoint, or a job) is spoken of once in ten minutes for each kind of notice, with a count of what happened
since. Kinds begin with `relay.`, which no producer may send and `*` does not match.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec
from psycopg.types.json import Jsonb

from relay import metrics
from relay.catalog.subscriptions import RESERVED
from relay.db import Conn
from relay.delivery.outcomes import Reason
from relay.ids import Uuid7
from relay.intake.accept import Candidate, NewEvent, store

QUIET = timedelta(minutes=10)
_AT_ONCE = 500
_LOCK_TIMEOUT_MS = 250
_LOG = logging.getLogger(__name__)


class Kind(StrEnum):
    """What is told; the type of the event that tells it."""

    ENDPOINT_FAILING = "relay.endpoint.failing"
    ENDPOINT_DISABLED = "relay.endpoint.disabled"
    CIRCUIT_OPENED = "relay.endpoint.circuit_opened"
    CIRCUIT_CLOSED = "relay.endpoint.circuit_closed"
    DELIVERY_DEAD = "relay.delivery.dead"
    JOB_DONE = "relay.job.done"


_GOOD_NEWS = (Kind.CIRCUIT_CLOSED, Kind.JOB_DONE)


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that happened `count` times to a subject; `details` are of the last time, as the payload shows them."""

    kind: Kind
    tenant_id: UUID
    subject_id: UUID
    details: dict[str, Any] = field(default_factory=dict[str, Any])
    count: int = 1


def failing(tenant_id: UUID, endpoint_id: UUID, *, since: datetime, days: int) -> Notice:
    """An endpoint has been failing for that many days."""
    return Notice(Kind.ENDPOINT_FAILING, tenant_id, endpoint_id, {"since": _iso(since), "days": days})


def disabled(tenant_id: UUID, endpoint_id: UUID, *, reason: Reason) -> Notice:
    """An endpoint was disabled by Relay."""
    return Notice(Kind.ENDPOINT_DISABLED, tenant_id, endpoint_id, {"reason": reason.name})


def circuit_opened(tenant_id: UUID, endpoint_id: UUID, *, next_probe_at: datetime) -> Notice:
    """An endpoint failed so often that its deliveries are held."""
    return Notice(Kind.CIRCUIT_OPENED, tenant_id, endpoint_id, {"nextProbeAt": _iso(next_probe_at)})


def circuit_closed(tenant_id: UUID, endpoint_id: UUID) -> Notice:
    """A probe succeeded: the endpoint's deliveries go out again."""
    return Notice(Kind.CIRCUIT_CLOSED, tenant_id, endpoint_id)


def dead(tenant_id: UUID, endpoint_id: UUID, *, delivery_id: UUID, event_id: UUID, reason: Reason) -> Notice:
    """A delivery of an endpoint died."""
    details = {"reason": reason.name, "deliveryId": str(delivery_id), "eventId": str(event_id)}
    return Notice(Kind.DELIVERY_DEAD, tenant_id, endpoint_id, details)


def job_done(tenant_id: UUID, job_id: UUID, *, status: str, done: int, skipped: int, failed: int) -> Notice:
    """A job ended, well or not; `status` in the API's spelling."""
    details = {"status": status, "done": done, "skipped": skipped, "failed": failed}
    return Notice(Kind.JOB_DONE, tenant_id, job_id, details)


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def is_told_of(event_type: str | None) -> bool:
    """Tell whether deliveries of this event type make notices: those of notices, and of Relay's tests, do not."""
    return event_type is None or not event_type.startswith(RESERVED)


async def tell(conn: Conn, notices: Iterable[Notice], *, ids: Uuid7) -> frozenset[int]:
    """Say these now, or count them for later; return the outbox shards to ring after the commit, if that is not to wait.

    Call it last: it sets the transaction's lock timeout.
    """
    await _count(conn, _merged(notices))
    return await send_due(conn, ids=ids)


def _merged(notices: Iterable[Notice]) -> list[Notice]:
    merged: dict[tuple[UUID, Kind], Notice] = {}
    for notice in notices:
        key = (notice.subject_id, notice.kind)
        before = merged[key].count if key in merged else 0
        merged[key] = replace(notice, count=before + notice.count)
    return [merged[key] for key in sorted(merged)]


async def _count(conn: Conn, notices: Sequence[Notice]) -> None:
    await conn.execute(
        """INSERT INTO notices AS n (subject_id, kind, tenant_id, sent_at, pending, details)
           SELECT subject_id, kind, tenant_id, '-infinity', pending, details
           FROM unnest(%s::uuid[], %s::text[], %s::uuid[], %s::int[], %s::jsonb[]) AS u (
                subject_id, kind, tenant_id, pending, details)
           ORDER BY subject_id, kind
           ON CONFLICT (subject_id, kind) DO UPDATE
               SET pending = n.pending + excluded.pending, details = excluded.details""",
        (
            [notice.subject_id for notice in notices],
            [notice.kind for notice in notices],
            [notice.tenant_id for notice in notices],
            [notice.count for notice in notices],
            [Jsonb(notice.details) for notice in notices],
        ),
    )


async def send_due(conn: Conn, *, ids: Uuid7) -> frozenset[int]:
    """Accept an event for each notice whose subject was not spoken of for ten minutes; return the shards to ring."""
    rows = await conn.execute(
        """WITH due AS MATERIALIZED (
               SELECT subject_id, kind, pending FROM notices WHERE pending > 0 AND sent_at <= now() - %s::interval
               ORDER BY sent_at, subject_id LIMIT %s FOR UPDATE SKIP LOCKED)
           UPDATE notices n SET pending = 0, sent_at = now()
           FROM due LEFT JOIN endpoints e ON e.id = due.subject_id
           WHERE n.subject_id = due.subject_id AND n.kind = due.kind
           RETURNING n.kind, n.tenant_id, n.subject_id, n.details, due.pending, e.url, now()""",
        (QUIET, _AT_ONCE),
    )
    events = [_event(Notice(Kind(row[0]), *row[1:5]), url=row[5], at=row[6]) async for row in rows]
    if not events:
        return frozenset()
    stored = await store(conn, [Candidate(ids(), event) for event in events], lock_timeout_ms=_LOCK_TIMEOUT_MS)
    return stored.shards


def _event(notice: Notice, *, url: str | None, at: datetime) -> NewEvent:
    subject = str(notice.subject_id)
    about = {"jobId": subject} if notice.kind is Kind.JOB_DONE else {"endpointId": subject, "url": url}
    payload = msgspec.json.encode({**about, **notice.details, "count": notice.count, "at": _iso(at)})
    level = logging.INFO if notice.kind in _GOOD_NEWS else logging.WARNING
    whom = "job_id" if notice.kind is Kind.JOB_DONE else "endpoint_id"
    extra = {"tenant_id": notice.tenant_id, whom: notice.subject_id}
    _LOG.log(level, "notice %s: %s", notice.kind, payload.decode(), extra=extra)
    metrics.NOTICES.labels(notice.kind).inc()
    return NewEvent(notice.tenant_id, payload, notice.kind, subject=subject)


async def forget(conn: Conn) -> None:
    """Delete what says no more than no row would: nothing to tell, and the last time was long ago."""
    await conn.execute("DELETE FROM notices WHERE pending = 0 AND sent_at < now() - %s::interval", (QUIET,))
