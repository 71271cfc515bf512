"""Endpoints: a URL with its subscription and delivery policy. Each has a '' lane, where its gates stand.

Functions that change a client's endpoints raise its `config_version` in the same transaction, which the caller opens.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from psycopg import sql
from psycopg.types.json import Jsonb

from relay.catalog import secrets
from relay.catalog.policies import CHANGEABLE, DEFAULT_RETRY_SCHEDULE_MS, EndpointChange, EndpointSpec, new_columns
from relay.catalog.secrets import Vault
from relay.db import Conn
from relay.delivery.addresses import Guard, check_url
from relay.delivery.signing import new_secret
from relay.errors import NotFound
from relay.paging import COUNT_LIMIT, NEWEST, Page, exact_count, page
from relay.tenancy import tenants

__all__ = ["DEFAULT_RETRY_SCHEDULE_MS", "Endpoint", "EndpointChange", "EndpointSpec", "EndpointStatus"]


class EndpointStatus(StrEnum):
    """ACTIVE: events flow. PAUSED: deliveries are made and held. DISABLED: not matched."""

    ACTIVE = "active"
    PAUSED = "paused"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint as it is now; `kind` is subscribed, or adhoc for the hidden one of a createEvent URL."""

    id: UUID
    tenant_id: UUID
    kind: str
    url: str
    description: str | None
    event_types: list[str]
    status: EndpointStatus
    max_retries: int
    retry_backoff_ms: int
    retry_backoff_max: int
    retry_backoff_mult: float
    retry_schedule: list[int] | None
    timeout_ms: int
    max_concurrency: int
    custom_headers: dict[str, str] | None
    version: int
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None


@dataclass(frozen=True, slots=True)
class Subscriber:
    """An endpoint as fan-out needs it; `partition_key` is the JSONPath of a FIFO endpoint's lanes."""

    id: UUID
    patterns: list[str]
    fifo: bool
    partition_key: str | None


_SELECT = sql.SQL(
    """SELECT e.id, e.tenant_id, e.kind, e.url, e.description, e.event_types,
              CASE WHEN e.status = 'active' AND l.paused THEN 'paused' ELSE e.status END,
              e.max_retries, e.retry_backoff_ms, e.retry_backoff_max, e.retry_backoff_mult, e.retry_schedule,
              e.timeout_ms, e.max_concurrency, e.custom_headers, e.version, e.created_at, e.updated_at, e.deleted_at
       FROM endpoints e LEFT JOIN lanes l ON l.endpoint_id = e.id AND l.key = '' """
)
_STATUS = 6
_OF_TENANT = sql.SQL("WHERE e.tenant_id = %(tenant_id)s AND e.deleted_at IS NULL AND e.kind = 'subscribed' ")
_WITH_STATUS = {
    None: sql.SQL(""),
    EndpointStatus.ACTIVE: sql.SQL("AND e.status = 'active' AND l.paused IS NOT TRUE "),
    EndpointStatus.PAUSED: sql.SQL("AND e.status = 'active' AND l.paused "),
    EndpointStatus.DISABLED: sql.SQL("AND e.status = 'disabled' "),
}


async def create(
    conn: Conn, tenant_id: UUID, spec: EndpointSpec, *, id: UUID, vault: Vault, guard: Guard
) -> tuple[Endpoint, str]:
    """Make an endpoint with its secret and its lane; return it with the secret. Raises Invalid for a forbidden URL."""
    check_url(spec.url, guard=guard, field="url")
    secret = spec.secret or new_secret()
    await _insert(conn, tenant_id, {**spec.columns(), "id": id, "kind": "subscribed"})
    await secrets.store(conn, tenant_id=tenant_id, owner_id=id, secret=secret, vault=vault)
    await tenants.bump(conn, tenant_id)
    return await get(conn, tenant_id, id), secret


async def _insert(conn: Conn, tenant_id: UUID, columns: dict[str, Any]) -> bool:
    """Insert an endpoint and its '' lane; False when the client has an ad-hoc endpoint for this URL already."""
    done = await conn.execute(
        """WITH e AS (
               INSERT INTO endpoints (id, tenant_id, kind, url, description, event_types, max_retries, retry_backoff_ms,
                   retry_backoff_max, retry_backoff_mult, retry_schedule, timeout_ms, max_concurrency, custom_headers)
               VALUES (%(id)s, %(tenant_id)s, %(kind)s, %(url)s, %(description)s, %(event_types)s, %(max_retries)s,
                   %(retry_backoff_ms)s, %(retry_backoff_max)s, %(retry_backoff_mult)s, %(retry_schedule)s::int[],
                   %(timeout_ms)s, %(max_concurrency)s, %(custom_headers)s)
               ON CONFLICT (tenant_id, url) WHERE kind = 'adhoc' DO NOTHING RETURNING id, tenant_id)
           INSERT INTO lanes (endpoint_id, key, tenant_id, tier) SELECT id, '', tenant_id, 1 FROM e""",
        _parameters(tenant_id, columns),
    )
    return done.rowcount == 1


def _parameters(tenant_id: UUID, columns: dict[str, Any]) -> dict[str, Any]:
    headers = columns["custom_headers"]
    return {**columns, "tenant_id": tenant_id, "custom_headers": None if headers is None else Jsonb(headers)}


async def update(conn: Conn, tenant_id: UUID, id: UUID, change: EndpointChange, *, guard: Guard) -> Endpoint:
    """Change an endpoint and return it as it is then. Raises NotFound, and Invalid for what does not fit together."""
    if change.url is not None:
        check_url(change.url, guard=guard, field="url")
    columns = change.over(await _locked(conn, tenant_id, id))
    await conn.execute(
        """UPDATE endpoints SET url = %(url)s, description = %(description)s, event_types = %(event_types)s,
               max_retries = %(max_retries)s, retry_backoff_ms = %(retry_backoff_ms)s,
               retry_backoff_max = %(retry_backoff_max)s, retry_backoff_mult = %(retry_backoff_mult)s,
               retry_schedule = %(retry_schedule)s::int[], timeout_ms = %(timeout_ms)s,
               max_concurrency = %(max_concurrency)s, custom_headers = %(custom_headers)s,
               version = version + 1, updated_at = now()
           WHERE tenant_id = %(tenant_id)s AND id = %(id)s""",
        _parameters(tenant_id, {**columns, "id": id}),
    )
    await tenants.bump(conn, tenant_id)
    return await get(conn, tenant_id, id)


async def _locked(conn: Conn, tenant_id: UUID, id: UUID) -> dict[str, Any]:
    """Read what may change, locked until the commit, so that two changes of different fields both last."""
    rows = await conn.execute(
        sql.SQL(
            """SELECT {} FROM endpoints
               WHERE tenant_id = %s AND id = %s AND kind = 'subscribed' AND deleted_at IS NULL FOR UPDATE"""
        ).format(sql.SQL(", ").join(map(sql.Identifier, CHANGEABLE))),
        (tenant_id, id),
    )
    row = await rows.fetchone()
    if row is None:
        raise _not_found()
    return dict(zip(CHANGEABLE, row, strict=True))


async def delete(conn: Conn, tenant_id: UUID, id: UUID) -> None:
    """Take the endpoint away; its history stays, its waiting deliveries are the caller's to cancel. Raises NotFound."""
    done = await conn.execute(
        """UPDATE endpoints SET deleted_at = now(), updated_at = now(), version = version + 1
           WHERE tenant_id = %s AND id = %s AND kind = 'subscribed' AND deleted_at IS NULL""",
        (tenant_id, id),
    )
    if done.rowcount == 0:
        raise _not_found()
    await tenants.bump(conn, tenant_id)


async def find(conn: Conn, tenant_id: UUID, id: UUID) -> Endpoint | None:
    """Return the client's endpoint; None when unknown, deleted or ad hoc."""
    rows = await conn.execute(_SELECT + _OF_TENANT + sql.SQL("AND e.id = %(id)s"), {"tenant_id": tenant_id, "id": id})
    row = await rows.fetchone()
    return _endpoint(row) if row else None


async def get(conn: Conn, tenant_id: UUID, id: UUID) -> Endpoint:
    """Return the client's endpoint; raise NotFound when unknown, deleted or ad hoc."""
    found = await find(conn, tenant_id, id)
    if found is None:
        raise _not_found()
    return found


async def find_many(conn: Conn, tenant_id: UUID, ids: Iterable[UUID]) -> dict[UUID, Endpoint]:
    """Return those of the client's endpoints, ad-hoc and deleted ones included (`kind`, `deleted_at`), by id."""
    rows = await conn.execute(
        _SELECT + sql.SQL("WHERE e.tenant_id = %s AND e.id = ANY(%s::uuid[])"), (tenant_id, list(ids))
    )
    return {row[0]: _endpoint(row) for row in await rows.fetchall()}


async def list_(
    conn: Conn, tenant_id: UUID, *, status: EndpointStatus | None = None, first: int, after: UUID | None = None
) -> Page[Endpoint]:
    """Return the client's endpoints, newest first."""
    rows = await conn.execute(
        _SELECT + _OF_TENANT + _WITH_STATUS[status]
        + sql.SQL("AND e.id < %(after)s ORDER BY e.id DESC LIMIT %(limit)s"),
        {"tenant_id": tenant_id, "after": after or NEWEST, "limit": first + 1},
    )  # fmt: skip
    return page([_endpoint(row) for row in await rows.fetchall()], first=first, after=after)


async def count(conn: Conn, tenant_id: UUID, *, status: EndpointStatus | None = None) -> int | None:
    """Count the client's endpoints; None above 10 000."""
    rows = await conn.execute(
        sql.SQL("SELECT count(*) FROM (")
        + _SELECT + _OF_TENANT + _WITH_STATUS[status] + sql.SQL("LIMIT %(limit)s) x"),
        {"tenant_id": tenant_id, "limit": COUNT_LIMIT + 1},
    )  # fmt: skip
    return exact_count((await rows.fetchall())[0][0])


async def adhoc(conn: Conn, tenant_id: UUID, url: str, *, id: UUID, guard: Guard) -> UUID:
    """Return the id of the client's hidden endpoint for a URL, made (with `id`) when missing. Raises Invalid."""
    check_url(url, guard=guard, field="destination")
    found = await _find_adhoc(conn, tenant_id, url)
    if found is not None:
        return found
    columns = {**new_columns(), "id": id, "kind": "adhoc", "url": url, "event_types": []}
    if await _insert(conn, tenant_id, columns):
        return id
    winner = await _find_adhoc(conn, tenant_id, url)
    if winner is None:
        raise _not_found()
    return winner


async def _find_adhoc(conn: Conn, tenant_id: UUID, url: str) -> UUID | None:
    rows = await conn.execute(
        "SELECT id FROM endpoints WHERE tenant_id = %s AND url = %s AND kind = 'adhoc'", (tenant_id, url)
    )
    row = await rows.fetchone()
    return row[0] if row else None


async def subscriptions(conn: Conn, tenant_ids: Iterable[UUID]) -> dict[UUID, tuple[int, list[Subscriber]]]:
    """Return each tenant's `config_version` and, of the same moment, its active endpoints."""
    rows = await conn.execute(
        """SELECT t.id, t.config_version, e.id, e.event_types, e.fifo, e.fifo_partition_key FROM tenants t
           LEFT JOIN endpoints e ON e.tenant_id = t.id AND e.deleted_at IS NULL AND e.kind = 'subscribed'
                AND e.status = 'active'
           WHERE t.id = ANY(%s::uuid[]) ORDER BY e.id""",
        (list(tenant_ids),),
    )
    found: dict[UUID, tuple[int, list[Subscriber]]] = {}
    async for tenant_id, version, *endpoint in rows:
        entries = found.setdefault(tenant_id, (version, []))[1]
        if endpoint[0] is not None:
            entries.append(Subscriber(*endpoint))
    return found


def _endpoint(row: tuple[Any, ...]) -> Endpoint:
    values: list[Any] = list(row)
    values[_STATUS] = EndpointStatus(values[_STATUS])
    return Endpoint(*values)


def _not_found() -> NotFound:
    return NotFound("There is no endpoint with this id.")
