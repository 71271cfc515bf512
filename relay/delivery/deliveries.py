"""Deliveries as they are looked at: `live` and `history` read as one list, newest first, never the hot path."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from psycopg import sql

from relay.db import Conn
from relay.delivery.live import FIFO
from relay.delivery.outcomes import Reason
from relay.errors import Invalid, NotFound
from relay.ids import floor_at, unix_time
from relay.paging import COUNT_LIMIT, NEWEST, Page, exact_count, page
from relay.specs import check_text


class DeliveryStatus(StrEnum):
    """Where a delivery stands; the last three are final."""

    QUEUED = "queued"
    DELIVERING = "delivering"
    FAILED = "failed"
    DELIVERED = "delivered"
    DEAD = "dead"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event on its way to one endpoint. `due_at`: the next attempt, if it waits for a time."""

    id: UUID
    tenant_id: UUID
    event_id: UUID
    endpoint_id: UUID
    status: DeliveryStatus
    attempts: int
    due_at: datetime | None
    reason: Reason | None
    tier: int
    created_at: datetime
    finished_at: datetime | None
    replay_of: UUID | None
    lane: str
    seq: int | None

    @property
    def partition_key(self) -> str | None:
        """Name the partition in whose order it is sent; None without an order."""
        return self.lane.removeprefix(FIFO) if self.lane.startswith(FIFO) else None


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Which deliveries a list holds: those for which all that is given holds. since <= creation < until."""

    status: DeliveryStatus | None = None
    event_id: UUID | None = None
    endpoint_id: UUID | None = None
    event_type: str | None = None
    reason: Reason | None = None
    since: datetime | None = None
    until: datetime | None = None
    settled: bool | None = None

    def __post_init__(self) -> None:
        """Raise Invalid for a text that no row can hold."""
        check_text(self.event_type, field="eventType")


#: What a status means in a row of `live` (as d).
LIVE_STATUS = {
    DeliveryStatus.QUEUED: sql.SQL("d.owner IS NULL AND d.attempts = 0"),
    DeliveryStatus.DELIVERING: sql.SQL("d.owner IS NOT NULL"),
    DeliveryStatus.FAILED: sql.SQL("d.owner IS NULL AND d.attempts > 0"),
}
#: What a status means in a row of `history` (as d).
HISTORY_STATUS = {
    DeliveryStatus.DELIVERED: sql.SQL("d.state = 'delivered'"),
    DeliveryStatus.DEAD: sql.SQL("d.state = 'dead'"),
    DeliveryStatus.CANCELLED: sql.SQL("d.state = 'cancelled'"),
}
_NEVER = sql.SQL("false")

_LIVE = sql.SQL(
    """SELECT d.id, d.tenant_id, d.event_id, d.endpoint_id,
              CASE WHEN d.owner IS NOT NULL THEN 'delivering' WHEN d.attempts > 0 THEN 'failed' ELSE 'queued' END,
              d.attempts, d.due_at, d.reason, d.tier, d.created_at, NULL::timestamptz, d.replay_of,
              d.lane, d.seq
       FROM live d WHERE """
)
_HISTORY = sql.SQL(
    """SELECT d.id, d.tenant_id, d.event_id, d.endpoint_id, d.state,
              d.attempts, NULL::timestamptz, d.reason, d.tier, d.created_at, d.finished_at, d.replay_of,
              d.lane, d.seq
       FROM history d WHERE """
)
#: An id is made a little before or after the moment that Postgres gives its row; bounds on ids leave room for that.
ID_SLACK_S = 600

_CLAUSES = {
    "event_id": sql.SQL("d.event_id = %(event_id)s"),
    "endpoint_id": sql.SQL("d.endpoint_id = %(endpoint_id)s"),
    "reason": sql.SQL("d.reason = %(reason)s"),
    "since": sql.SQL("d.created_at >= %(since)s AND d.id >= %(from_id)s"),
    "until": sql.SQL("d.created_at < %(until)s AND d.id < %(to_id)s"),
    "event_type": sql.SQL(
        """EXISTS (SELECT FROM events e WHERE e.id = d.event_id AND e.type = %(event_type)s OFFSET 0)"""
    ),
}
_SETTLED = {
    True: sql.SQL("NOT EXISTS (SELECT FROM dead_letters x WHERE x.id = d.id)"),
    False: sql.SQL("EXISTS (SELECT FROM dead_letters x WHERE x.id = d.id)"),
}


async def find(conn: Conn, tenant_id: UUID, id: UUID) -> Delivery | None:
    """Return the client's delivery, or None."""
    return (await find_many(conn, tenant_id, [id])).get(id)


async def get(conn: Conn, tenant_id: UUID, id: UUID) -> Delivery:
    """Return the client's delivery; raise NotFound."""
    found = await find(conn, tenant_id, id)
    if found is None:
        raise NotFound("There is no delivery with this id.")
    return found


async def find_many(conn: Conn, tenant_id: UUID, ids: Iterable[UUID]) -> dict[UUID, Delivery]:
    """Return those of the client's deliveries, by id."""
    chosen = sql.SQL("d.tenant_id = %(tenant_id)s AND d.id = ANY(%(ids)s::uuid[])")
    rows = await conn.execute(
        _LIVE + chosen + sql.SQL(" UNION ALL ") + _HISTORY + chosen, {"tenant_id": tenant_id, "ids": list(ids)}
    )
    return {row[0]: _delivery(row) for row in await rows.fetchall()}


async def replays_of(conn: Conn, tenant_id: UUID, ids: Iterable[UUID]) -> dict[UUID, Delivery]:
    """Return the newest delivery that repeats each of the client's deliveries, by the id of the one repeated."""
    wanted = list(ids)
    if not wanted:
        return {}
    chosen = sql.SQL("d.tenant_id = %(tenant_id)s AND d.replay_of = ANY(%(ids)s::uuid[]) AND d.id >= %(oldest)s")
    rows = await conn.execute(
        sql.SQL("SELECT * FROM (") + _LIVE + chosen + sql.SQL(" UNION ALL ") + _HISTORY + chosen
        + sql.SQL(") x ORDER BY id"),
        {"tenant_id": tenant_id, "ids": wanted, "oldest": oldest_of(wanted)},
    )  # fmt: skip
    found = [_delivery(row) for row in await rows.fetchall()]
    return {one.replay_of: one for one in found if one.replay_of is not None}


async def of_events(conn: Conn, event_ids: Iterable[UUID], first: int) -> dict[UUID, list[Delivery]]:
    """Return the newest `first` deliveries of each event, newest first; the ids must be those the caller may see."""
    wanted = list(event_ids)
    if not wanted:
        return {}
    chosen = sql.SQL("d.event_id = w.event_id AND d.id >= %(oldest)s ORDER BY d.id DESC LIMIT %(first)s")
    rows = await conn.execute(
        sql.SQL("SELECT x.* FROM unnest(%(ids)s::uuid[]) AS w (event_id) CROSS JOIN LATERAL ((")
        + _LIVE + chosen + sql.SQL(") UNION ALL (") + _HISTORY + chosen
        + sql.SQL(") ORDER BY 1 DESC LIMIT %(first)s) x"),
        {"ids": wanted, "first": first, "oldest": oldest_of(wanted)},
    )  # fmt: skip
    found: dict[UUID, list[Delivery]] = {id: [] for id in wanted}
    async for row in rows:
        found[row[2]].append(_delivery(row))
    return found


async def list_(
    conn: Conn, tenant_id: UUID, filter: DeliveryFilter, *, first: int, after: UUID | None = None
) -> Page[Delivery]:
    """Return the client's deliveries, newest first. Raises Invalid for a filter that contradicts itself."""
    rows = await conn.execute(
        sql.SQL("(") + _LIVE + _where(filter, LIVE_STATUS) + sql.SQL(" ORDER BY d.id DESC LIMIT %(limit)s) UNION ALL (")
        + _HISTORY + _where(filter, HISTORY_STATUS)
        + sql.SQL(" ORDER BY d.id DESC LIMIT %(limit)s) ORDER BY 1 DESC LIMIT %(limit)s"),
        _parameters(tenant_id, filter, after=after, limit=first + 1),
        prepare=False,
    )  # fmt: skip
    return page([_delivery(row) for row in await rows.fetchall()], first=first, after=after)


async def count(conn: Conn, tenant_id: UUID, filter: DeliveryFilter) -> int | None:
    """Count the client's deliveries; None above 10 000."""
    rows = await conn.execute(
        sql.SQL("SELECT count(*) FROM ((SELECT FROM live d WHERE ") + _where(filter, LIVE_STATUS)
        + sql.SQL(" LIMIT %(limit)s) UNION ALL (SELECT FROM history d WHERE ") + _where(filter, HISTORY_STATUS)
        + sql.SQL(" LIMIT %(limit)s)) x"),
        _parameters(tenant_id, filter, after=None, limit=COUNT_LIMIT + 1),
        prepare=False,
    )  # fmt: skip
    return exact_count((await rows.fetchall())[0][0])


def _where(filter: DeliveryFilter, statuses: dict[DeliveryStatus, sql.SQL]) -> sql.Composed:
    """The conditions on one of the two tables, the one whose `statuses` these are."""
    status = filter.status
    parts = [sql.SQL("d.tenant_id = %(tenant_id)s AND d.id < %(after)s")]
    if filter.settled is not None:
        if status not in {None, DeliveryStatus.DEAD}:
            raise Invalid("settled is for DEAD deliveries only.", field="settled")
        status = DeliveryStatus.DEAD
        parts.append(_SETTLED[filter.settled])
    if status is not None:
        parts.append(statuses.get(status, _NEVER))
    parts += [clause for name, clause in _CLAUSES.items() if getattr(filter, name) is not None]
    return sql.SQL(" AND ").join(parts)


def _parameters(tenant_id: UUID, filter: DeliveryFilter, *, after: UUID | None, limit: int) -> dict[str, Any]:
    bounds = id_bounds(filter.since, filter.until)
    return {**asdict(filter), **bounds, "tenant_id": tenant_id, "after": after or NEWEST, "limit": limit}


def id_bounds(since: datetime | None, until: datetime | None) -> dict[str, UUID]:
    """Return the ids (`from_id`, `to_id`) between which rows of a time lie for certain: what prunes partitions."""
    bounds: dict[str, UUID] = {}
    if since is not None:
        bounds["from_id"] = _around(since.timestamp() - ID_SLACK_S)
    if until is not None:
        bounds["to_id"] = _around(until.timestamp() + ID_SLACK_S)
    return bounds


def oldest_of(ids: Iterable[UUID]) -> UUID:
    """Return an id below that of any row made because of these: their deliveries, attempts and fan-outs."""
    return _around(unix_time(min(ids)) - ID_SLACK_S)


def _around(unix_s: float) -> UUID:
    return floor_at(max(0.0, unix_s))


def _delivery(row: tuple[Any, ...]) -> Delivery:
    values: list[Any] = list(row)
    values[4] = DeliveryStatus(values[4])
    values[7] = None if values[7] is None else Reason(values[7])
    return Delivery(*values)
