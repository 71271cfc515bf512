"""Attempts as they are looked at: each HTTP request of a delivery, and what came back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from psycopg import sql

from relay.db import Conn
from relay.delivery.deliveries import oldest_of
from relay.delivery.outcomes import Reason
from relay.ids import unix_time


@dataclass(frozen=True, slots=True)
class Attempt:
    """One HTTP request; times in ms, `status` None when no answer came."""

    delivery_id: UUID
    n: int
    at: datetime
    status: int | None
    reason: Reason
    error: str | None
    request_url: str
    request_headers: dict[str, str] | None
    response_headers: dict[str, str] | None
    body: bytes | None
    body_truncated: bool
    peer_ip: str | None
    dns_ms: float | None
    connect_ms: float | None
    tls_ms: float | None
    first_byte_ms: float | None
    total_ms: float

    @property
    def id(self) -> str:
        """Name the attempt: its delivery and its number."""
        return f"{self.delivery_id}:{self.n}"


_COLUMNS = sql.SQL(
    """a.delivery_id, a.n, a.at, a.status, a.reason, a.error, a.request_url, a.request_headers, a.response_headers,
       a.body, a.body_truncated, a.peer_ip, a.dns_ms, a.connect_ms, a.tls_ms, a.first_byte_ms, a.total_ms"""
)


async def of_deliveries(conn: Conn, tenant_id: UUID, delivery_ids: Iterable[UUID]) -> dict[UUID, list[Attempt]]:
    """Return the attempts of each delivery, in order."""
    wanted = list(delivery_ids)
    if not wanted:
        return {}
    rows = await conn.execute(
        sql.SQL("SELECT ") + _COLUMNS + sql.SQL(
            """ FROM attempts a WHERE a.delivery_id = ANY(%s::uuid[]) AND a.tenant_id = %s AND a.at >= %s
                ORDER BY a.delivery_id, a.n, a.at"""
        ),
        (wanted, tenant_id, _since(wanted)),
    )  # fmt: skip
    found: dict[UUID, list[Attempt]] = {id: [] for id in wanted}
    async for row in rows:
        found[row[0]].append(_attempt(row))
    return found


async def of_events(
    conn: Conn, tenant_id: UUID, event_ids: Iterable[UUID], *, newest: int = 100
) -> dict[UUID, list[Attempt]]:
    """Return the newest attempts over all deliveries of each event, in order of time."""
    wanted = list(event_ids)
    if not wanted:
        return {}
    rows = await conn.execute(
        sql.SQL("SELECT ") + _COLUMNS + sql.SQL(
            """, w.event_id FROM unnest(%(ids)s::uuid[]) AS w (event_id) CROSS JOIN LATERAL (
                   SELECT x.* FROM (
                       SELECT id FROM live WHERE event_id = w.event_id AND tenant_id = %(tenant_id)s UNION ALL
                       SELECT id FROM history
                       WHERE event_id = w.event_id AND tenant_id = %(tenant_id)s AND id >= %(oldest)s) d
                   JOIN attempts x ON x.delivery_id = d.id AND x.at >= %(since)s
                   ORDER BY x.at DESC LIMIT %(newest)s) a
               ORDER BY a.at, a.n"""
        ),
        {"ids": wanted, "tenant_id": tenant_id, "oldest": oldest_of(wanted), "since": _since(wanted), "newest": newest},
    )  # fmt: skip
    found: dict[UUID, list[Attempt]] = {id: [] for id in wanted}
    async for row in rows:
        found[row[-1]].append(_attempt(row[:-1]))
    return found


def _since(ids: Iterable[UUID]) -> datetime:
    """No attempt is older than what it belongs to; the bound prunes partitions."""
    return datetime.fromtimestamp(unix_time(oldest_of(ids)), UTC)


def _attempt(row: tuple[Any, ...]) -> Attempt:
    values: list[Any] = list(row)
    values[4] = Reason(values[4])
    values[9] = None if values[9] is None else bytes(values[9])
    return Attempt(*values)
