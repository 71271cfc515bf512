"""Endpoints: a URL with its subscription and delivery policy. Each has a '' lane, where its gates stand.

Functions that change a client's endpoints raise its `config_version` in the same transaction, which the caller opens.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from psycopg import sql
from psycopg.types.json import Jsonb

from relay.catalog import credentials, secrets
from relay.catalog.ordering import check_order
from relay.catalog.policies import (
    CHANGEABLE,
    DEFAULT_RETRY_SCHEDULE_MS,
    EndpointChange,
    EndpointSpec,
    FIFOHeadPolicy,
    PayloadFormat,
    Policy,
)
from relay.catalog.secrets import Vault
from relay.catalog.transformations import TransformationFailure
from relay.db import Conn
from relay.delivery.addresses import Guard, check_url
from relay.delivery.outcomes import Reason
from relay.delivery.signing import new_secret
from relay.errors import NotFound
from relay.paging import COUNT_LIMIT, NEWEST, Page, exact_count, page
from relay.tenancy import audit, tenants

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
    terminal_status_codes: list[int]
    timeout_ms: int
    rate_limit_per_sec: int
    max_concurrency: int
    circuit_threshold: int
    circuit_reset_ms: int
    fifo: bool
    fifo_partition_key: str | None
    fifo_on_dead: FIFOHeadPolicy
    custom_headers: dict[str, str] | None
    transformation: str | None
    transformation_version: int | None
    transformation_on_error: TransformationFailure
    format: PayloadFormat
    gzip: bool
    filter: str | None
    disabled_reason: Reason | None
    disabled_at: datetime | None
    version: int
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None


_KINDS = {
    "status": EndpointStatus,
    "fifo_on_dead": FIFOHeadPolicy,
    "format": PayloadFormat,
    "transformation_on_error": TransformationFailure,
}
_FIELDS = tuple(field.name for field in fields(Endpoint))
_SHOWN = {
    "status": sql.SQL("CASE WHEN e.status = 'active' AND l.paused THEN 'paused' ELSE e.status END"),
    "filter": sql.SQL("e.filter::text"),
}
_SELECT = sql.SQL("SELECT {} FROM endpoints e LEFT JOIN lanes l ON l.endpoint_id = e.id AND l.key = '' ").format(
    sql.SQL(", ").join(_SHOWN.get(name) or sql.Identifier("e", name) for name in _FIELDS)
)
_CHANGEABLE = sql.SQL(", ").join(map(sql.Identifier, CHANGEABLE))
_VALUES = sql.SQL(", ").join(map(sql.Placeholder, CHANGEABLE))
#: A filter as it was written: read as JSON its numbers would be floats.
_AS_WRITTEN = sql.SQL(", ").join(
    sql.Identifier(name) + sql.SQL("::text" if name == "filter" else "") for name in CHANGEABLE
)
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
    secret = spec.secret or new_secret(spec.scheme)
    await insert(conn, tenant_id, {**spec.columns(), "id": id, "kind": "subscribed"})
    await secrets.store(conn, tenant_id=tenant_id, owner_id=id, secret=secret, vault=vault)
    await tenants.bump(conn, tenant_id)
    made = await get(conn, tenant_id, id)
    await _authorize(conn, made, spec, vault=vault, guard=guard)
    return made, secret


async def _authorize(conn: Conn, endpoint: Endpoint, given: Policy, *, vault: Vault, guard: Guard) -> None:
    await credentials.change(
        conn,
        tenant_id=endpoint.tenant_id,
        endpoint_id=endpoint.id,
        given=given,
        custom_headers=endpoint.custom_headers or {},
        vault=vault,
        guard=guard,
    )


async def insert(conn: Conn, tenant_id: UUID, columns: Mapping[str, Any]) -> bool:
    """Insert an endpoint and its '' lane; False when the client has an ad-hoc endpoint for this URL already."""
    done = await conn.execute(
        sql.SQL(
            """WITH e AS (
                   INSERT INTO endpoints (id, tenant_id, kind, {}, transformation_version)
                   VALUES (%(id)s, %(tenant_id)s, %(kind)s, {}, CASE WHEN %(transformation)s::text IS NOT NULL THEN 1 END)
                   ON CONFLICT (tenant_id, url) WHERE kind = 'adhoc' DO NOTHING RETURNING id, tenant_id)
               INSERT INTO lanes (endpoint_id, key, tenant_id, tier) SELECT id, '', tenant_id, 1 FROM e"""
        ).format(_CHANGEABLE, _VALUES),
        _parameters(tenant_id, columns),
    )
    return done.rowcount == 1


def _parameters(tenant_id: UUID, columns: Mapping[str, Any]) -> dict[str, Any]:
    headers = columns["custom_headers"]
    return {**columns, "tenant_id": tenant_id, "custom_headers": None if headers is None else Jsonb(headers)}


async def update(
    conn: Conn, tenant_id: UUID, id: UUID, change: EndpointChange, *, vault: Vault, guard: Guard
) -> Endpoint:
    """Change an endpoint and return it as it is then.

    Raises NotFound, Invalid for what does not fit together, and Conflict where it would tear apart an order in use.
    """
    if change.url is not None:
        check_url(change.url, guard=guard, field="url")
    before = await _locked(conn, tenant_id, id)
    columns = change.over(before)
    await check_order(conn, id, before=before, after=columns)
    await conn.execute(
        sql.SQL(
            """UPDATE endpoints SET ({}) = ({}), version = version + 1, updated_at = now(),
                   transformation_version = CASE WHEN transformation IS DISTINCT FROM %(transformation)s::text
                       THEN coalesce(transformation_version, 0) + 1 ELSE transformation_version END
               WHERE tenant_id = %(tenant_id)s AND id = %(id)s"""
        ).format(_CHANGEABLE, _VALUES),
        _parameters(tenant_id, {**columns, "id": id}),
    )
    await tenants.bump(conn, tenant_id)
    changed = await get(conn, tenant_id, id)
    await _authorize(conn, changed, change, vault=vault, guard=guard)
    return changed


async def _locked(conn: Conn, tenant_id: UUID, id: UUID) -> dict[str, Any]:
    """Read what may change, locked until the commit, so that two changes of different fields both last."""
    rows = await conn.execute(
        sql.SQL(
            """SELECT {} FROM endpoints
               WHERE tenant_id = %s AND id = %s AND kind = 'subscribed' AND deleted_at IS NULL FOR UPDATE"""
        ).format(_AS_WRITTEN),
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
    await credentials.remove(conn, id)
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


async def get_locked(conn: Conn, tenant_id: UUID, id: UUID) -> Endpoint:
    """Return the client's endpoint, locked until the commit: what it is before a change. Raises NotFound."""
    await _locked(conn, tenant_id, id)
    return await get(conn, tenant_id, id)


def audited_fields(endpoint: Endpoint) -> dict[str, Any]:
    """What the audit log shows of an endpoint, by API names."""
    shown = audit.fields_of(endpoint, (*CHANGEABLE, "status", "disabled_reason"))
    return {**shown, "filter": None if endpoint.filter is None else json.loads(endpoint.filter)}


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


def _endpoint(row: tuple[Any, ...]) -> Endpoint:
    values = dict(zip(_FIELDS, row, strict=True))
    values.update({name: kind(values[name]) for name, kind in _KINDS.items()})
    values["disabled_reason"] = values["disabled_reason"] and Reason(values["disabled_reason"])
    return Endpoint(**values)


def _not_found() -> NotFound:
    return NotFound("There is no endpoint with this id.")
