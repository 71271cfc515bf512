"""Events as they are looked at: what a producer sent, and what has become of it over all its deliveries."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from psycopg import sql

from relay.catalog.subscriptions import check_pattern
from relay.db import Conn
from relay.delivery.deliveries import HISTORY_STATUS, LIVE_STATUS, DeliveryStatus, id_bounds, oldest_of
from relay.errors import NotFound
from relay.paging import COUNT_LIMIT, NEWEST, Page, exact_count, page
from relay.specs import check_text


class EventStatus(StrEnum):
    """What has become of an event, over the newest delivery per endpoint."""

    QUEUED = "queued"
    DELIVERING = "delivering"
    DELIVERED = "delivered"
    FAILED = "failed"
    DEAD = "dead"
    CANCELLED = "cancelled"
    UNMATCHED = "unmatched"


@dataclass(frozen=True, slots=True)
class Event:
    """What a producer sent; `endpoint_id` is set when it is for that endpoint alone. `payload` is None once erased."""

    id: UUID
    tenant_id: UUID
    type: str | None
    payload: bytes | None
    content_type: str
    headers: dict[str, str] | None
    subject: str | None
    priority: int
    idempotency_key: str | None
    endpoint_id: UUID | None
    max_attempts: int | None
    scheduled_at: datetime | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Progress:
    """An event's status, the attempts of all its deliveries, and when the last arrived (None until DELIVERED)."""

    status: EventStatus
    attempts: int
    delivered_at: datetime | None


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events a list holds: those for which all that is given holds. since <= acceptance < until.

    `delivery_status` and `endpoint_id` together ask for one delivery that has both.
    """

    event_type: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    idempotency_key: str | None = None
    subject: str | None = None
    delivery_status: DeliveryStatus | None = None
    endpoint_id: UUID | None = None
    unmatched: bool | None = None

    def __post_init__(self) -> None:
        """Raise Invalid for a text that no row can hold."""
        check_text(self.idempotency_key, field="idempotencyKey")
        check_text(self.subject, field="subject")


_SELECT = sql.SQL(
    """SELECT e.id, e.tenant_id, e.type, e.payload, e.content_type, e.headers, e.subject, e.priority, e.idempotency_key,
              e.endpoint_id, e.max_attempts, e.scheduled_at, e.created_at FROM events e """
)
_CLAUSES = {
    "since": sql.SQL("e.created_at >= %(since)s AND e.id >= %(from_id)s"),
    "until": sql.SQL("e.created_at < %(until)s AND e.id < %(to_id)s"),
    "idempotency_key": sql.SQL("e.idempotency_key = %(idempotency_key)s"),
    "subject": sql.SQL("e.subject = %(subject)s"),
}
_UNMATCHED = {
    True: sql.SQL(
        """e.id IN (SELECT f.event_id FROM fanouts f
                    WHERE f.tenant_id = %(tenant_id)s AND f.matched = 0 AND NOT f.cancelled)"""
    ),
    False: sql.SQL("NOT EXISTS (SELECT FROM fanouts f WHERE f.event_id = e.id AND f.matched = 0 AND NOT f.cancelled)"),
}


async def find(conn: Conn, tenant_id: UUID, id: UUID) -> Event | None:
    """Return the client's event, or None."""
    return (await find_many(conn, tenant_id, [id])).get(id)


async def get(conn: Conn, tenant_id: UUID, id: UUID) -> Event:
    """Return the client's event; raise NotFound."""
    found = await find(conn, tenant_id, id)
    if found is None:
        raise NotFound("There is no event with this id.")
    return found


async def find_many(conn: Conn, tenant_id: UUID, ids: Iterable[UUID]) -> dict[UUID, Event]:
    """Return those of the client's events, by id."""
    rows = await conn.execute(
        _SELECT + sql.SQL("WHERE e.tenant_id = %s AND e.id = ANY(%s::uuid[])"), (tenant_id, list(ids))
    )
    return {row[0]: _event(row) for row in await rows.fetchall()}


async def list_(
    conn: Conn, tenant_id: UUID, filter: EventFilter, *, first: int, after: UUID | None = None
) -> Page[Event]:
    """Return the client's events, newest first. Raises Invalid for a type that is neither a name nor a pattern."""
    rows = await conn.execute(
        _SELECT + _where(filter) + sql.SQL(" ORDER BY e.id DESC LIMIT %(limit)s"),
        _parameters(tenant_id, filter, after=after, limit=first + 1),
        prepare=False,
    )
    return page([_event(row) for row in await rows.fetchall()], first=first, after=after)


async def count(conn: Conn, tenant_id: UUID, filter: EventFilter) -> int | None:
    """Count the client's events; None above 10 000."""
    rows = await conn.execute(
        sql.SQL("SELECT count(*) FROM (SELECT FROM events e ") + _where(filter) + sql.SQL(" LIMIT %(limit)s) x"),
        _parameters(tenant_id, filter, after=None, limit=COUNT_LIMIT + 1),
        prepare=False,
    )
    return exact_count((await rows.fetchall())[0][0])


def _where(filter: EventFilter) -> sql.Composed:
    parts: list[sql.Composable] = [sql.SQL("WHERE e.tenant_id = %(tenant_id)s AND e.id < %(after)s")]
    parts += [clause for name, clause in _CLAUSES.items() if getattr(filter, name) is not None]
    if filter.event_type is not None:
        parts.append(_of_type(filter.event_type))
    if filter.unmatched is not None:
        parts.append(_UNMATCHED[filter.unmatched])
    if filter.delivery_status is not None or filter.endpoint_id is not None:
        parts.append(_with_delivery(filter))
    return sql.SQL(" AND ").join(parts)


def _of_type(pattern: str) -> sql.SQL:
    """The same rule as `relay.catalog.subscriptions.matches`, for Postgres."""
    check_pattern(pattern, field="eventType")
    if pattern == "*":
        return sql.SQL("e.type IS NOT NULL AND NOT starts_with(e.type, 'relay.')")
    if pattern.endswith(".*"):
        return sql.SQL("starts_with(e.type, left(%(event_type)s, -1))")
    return sql.SQL("e.type = %(event_type)s")


def _with_delivery(filter: EventFilter) -> sql.Composed:
    """With a delivery to an endpoint, or in a status, which only one of the two tables can hold."""
    chosen = sql.SQL("d.tenant_id = %(tenant_id)s")
    if filter.endpoint_id is not None:
        chosen = sql.SQL("d.tenant_id = %(tenant_id)s AND d.endpoint_id = %(endpoint_id)s")
    live = sql.SQL("SELECT d.event_id FROM live d WHERE ") + chosen
    history = sql.SQL("SELECT d.event_id FROM history d WHERE ") + chosen
    status = filter.delivery_status
    if status is None:
        found = live + sql.SQL(" UNION ALL ") + history
    elif status in LIVE_STATUS:
        found = live + sql.SQL(" AND ") + LIVE_STATUS[status]
    else:
        found = history + sql.SQL(" AND ") + HISTORY_STATUS[status]
    return sql.SQL("e.id IN (") + found + sql.SQL(")")


def _parameters(tenant_id: UUID, filter: EventFilter, *, after: UUID | None, limit: int) -> dict[str, Any]:
    bounds = id_bounds(filter.since, filter.until)
    return {**asdict(filter), **bounds, "tenant_id": tenant_id, "after": after or NEWEST, "limit": limit}


async def statuses(conn: Conn, ids: Iterable[UUID]) -> dict[UUID, EventStatus]:
    """Return the status of each event; the ids must be those of events the caller may see."""
    return {id: one.status for id, one in (await progress(conn, ids)).items()}


async def progress(conn: Conn, ids: Iterable[UUID]) -> dict[UUID, Progress]:
    """Return what has become of each event; the ids must be those of events the caller may see."""
    wanted = list(ids)
    if not wanted:
        return {}
    rows = await conn.execute(
        """WITH w AS (SELECT unnest(%(ids)s::uuid[]) AS event_id),
        d AS MATERIALIZED (
            SELECT l.event_id, l.endpoint_id, l.id, l.attempts, NULL::timestamptz AS finished_at,
                   CASE WHEN l.owner IS NOT NULL THEN 1 WHEN l.attempts > 0 THEN 2 ELSE 3 END AS rank
            FROM live l WHERE l.event_id = ANY(%(ids)s::uuid[])
            UNION ALL
            SELECT h.event_id, h.endpoint_id, h.id, h.attempts, h.finished_at,
                   CASE h.state WHEN 'dead' THEN 4 WHEN 'delivered' THEN 5 ELSE 6 END
            FROM history h WHERE h.event_id = ANY(%(ids)s::uuid[]) AND h.id >= %(oldest)s),
        newest AS (
            SELECT DISTINCT ON (event_id, endpoint_id) event_id, rank FROM d ORDER BY event_id, endpoint_id, id DESC),
        ranks AS (SELECT event_id, min(rank) AS rank FROM newest GROUP BY event_id),
        sums AS (
            SELECT event_id, sum(attempts)::int AS attempts, max(finished_at) FILTER (WHERE rank = 5) AS arrived_at
            FROM d GROUP BY event_id)
        SELECT w.event_id,
               CASE r.rank WHEN 1 THEN 'delivering' WHEN 2 THEN 'failed' WHEN 3 THEN 'queued' WHEN 4 THEN 'dead'
                    WHEN 5 THEN 'delivered' WHEN 6 THEN 'cancelled'
                    ELSE CASE WHEN f.cancelled THEN 'cancelled' WHEN f.matched = 0 THEN 'unmatched' ELSE 'queued' END END,
               coalesce(s.attempts, 0), s.arrived_at
        FROM w LEFT JOIN ranks r USING (event_id) LEFT JOIN sums s USING (event_id)
        LEFT JOIN fanouts f ON f.event_id = w.event_id AND f.event_id = ANY(%(ids)s::uuid[])""",
        {"ids": wanted, "oldest": oldest_of(wanted)},
    )
    return {row[0]: _progress(EventStatus(row[1]), *row[2:]) async for row in rows}


def _progress(status: EventStatus, attempts: int, arrived_at: datetime | None) -> Progress:
    return Progress(status, attempts, arrived_at if status is EventStatus.DELIVERED else None)


def _event(row: tuple[Any, ...]) -> Event:
    values: list[Any] = list(row)
    values[3] = None if values[3] is None else bytes(values[3])
    return Event(*values)
