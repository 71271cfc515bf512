"""Tenants (the API says clients): whose data everything is. Each has a signing secret of its own, for createEvent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql

from relay.catalog import secrets
from relay.catalog.secrets import Vault
from relay.db import Conn
from relay.delivery.signing import check_secret, new_secret
from relay.errors import Conflict, Invalid, NotFound
from relay.ids import Uuid7
from relay.paging import COUNT_LIMIT, NEWEST, Page, exact_count, page
from relay.tenancy import audit

#: The one client of a system without auth.
DEFAULT_NAME = "default"
DEFAULT_ID = UUID("00000000-0000-7000-8000-000000000001")

_MAX_NAME = 255
_MAX_RATE = 1_000_000
_COLUMNS = sql.SQL("id, name, created_at, config_version, unknown_event_types, rate_limit_per_sec")
_SELECT = sql.SQL("SELECT ") + _COLUMNS + sql.SQL(" FROM tenants ")
_ids = Uuid7()


class UnknownEventTypes(StrEnum):
    """What becomes of an event whose type nobody created."""

    ALLOW = "allow"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Tenant:
    """A client; `config_version` grows with every change of its endpoints; rate limit 0: CLIENT_RATE_LIMIT_RPS."""

    id: UUID
    name: str
    created_at: datetime
    config_version: int
    unknown_event_types: UnknownEventTypes
    rate_limit_per_sec: int


@dataclass(frozen=True, slots=True)
class ClientSpec:
    """What can be said of a client; of a change, None leaves what is."""

    name: str | None = None
    unknown_event_types: UnknownEventTypes | None = None
    rate_limit_per_sec: int | None = None

    def check(self) -> None:
        """Raise Invalid, naming the field, for what no client can have."""
        if self.name is not None:
            _checked_name(self.name)
        if self.rate_limit_per_sec is not None and not 0 <= self.rate_limit_per_sec <= _MAX_RATE:
            raise Invalid(f"rateLimitPerSec must be between 0 and {_MAX_RATE}.", field="rateLimitPerSec")


async def ensure(conn: Conn, name: str, *, vault: Vault) -> tuple[Tenant, str | None]:
    """Return the tenant of this name, made with a new signing secret when missing; the secret comes only then.

    Raises Invalid for an empty or too long name.
    """
    found = await find_by_name(conn, _checked_name(name))
    if found is not None:
        return found, None
    async with conn.transaction():
        made = await _insert(conn, name)
        if made is not None:
            secret = new_secret()
            await secrets.store(conn, tenant_id=made.id, owner_id=made.id, secret=secret, vault=vault)
            return made, secret
    winner = await find_by_name(conn, name)
    if winner is None:
        raise NotFound("The client was removed while it was being made.")
    return winner, None


async def _insert(conn: Conn, name: str) -> Tenant | None:
    rows = await conn.execute(
        sql.SQL("INSERT INTO tenants (id, name) VALUES (%s, %s) ON CONFLICT DO NOTHING RETURNING ") + _COLUMNS,
        (DEFAULT_ID if name == DEFAULT_NAME else _ids(), name),
    )
    row = await rows.fetchone()
    return _tenant(*row) if row else None


async def create(conn: Conn, spec: ClientSpec, *, vault: Vault) -> tuple[Tenant, str]:
    """Make a client and return it with its signing secret, which is shown once. Raises Invalid; Conflict for a name in use."""
    spec.check()
    tenant, secret = await ensure(conn, spec.name or "", vault=vault)
    if secret is None:
        raise Conflict(f"There is a client named {tenant.name}.", field="name")
    return await update(conn, tenant.id, spec), secret


async def update(conn: Conn, id: UUID, spec: ClientSpec) -> Tenant:
    """Change what is given. Raises Invalid, NotFound, and Conflict for a name in use and for the default client's."""
    spec.check()
    if id == DEFAULT_ID and spec.name not in (None, DEFAULT_NAME):
        raise Conflict(
            f"The client {DEFAULT_NAME} keeps its name: a Relay without keys finds it by that.", field="name"
        )
    try:
        async with conn.transaction():
            rows = await conn.execute(
                sql.SQL(
                    """UPDATE tenants SET name = coalesce(%s, name), config_version = config_version + 1,
                           unknown_event_types = coalesce(%s, unknown_event_types),
                           rate_limit_per_sec = coalesce(%s, rate_limit_per_sec)
                       WHERE id = %s RETURNING """
                )
                + _COLUMNS,
                (spec.name, spec.unknown_event_types, spec.rate_limit_per_sec, id),
            )
            row = await rows.fetchone()
    except psycopg.errors.UniqueViolation as cause:
        raise Conflict(f"There is a client named {spec.name}.", field="name") from cause
    if row is None:
        raise _no_client()
    return _tenant(*row)


async def list_(conn: Conn, *, first: int, after: UUID | None = None) -> Page[Tenant]:
    """Return the clients, newest first."""
    rows = await conn.execute(
        _SELECT + sql.SQL("WHERE id < %s ORDER BY id DESC LIMIT %s"),
        (after or NEWEST, first + 1),
    )
    return page([_tenant(*row) for row in await rows.fetchall()], first=first, after=after)


async def count(conn: Conn) -> int | None:
    """Count the clients; None above 10 000."""
    rows = await conn.execute("SELECT count(*) FROM (SELECT FROM tenants LIMIT %s) x", (COUNT_LIMIT + 1,))
    return exact_count((await rows.fetchall())[0][0])


async def secret_hints(conn: Conn, ids: Iterable[UUID]) -> dict[UUID, str]:
    """Return the last four characters of each tenant's current signing secret."""
    rows = await conn.execute(
        "SELECT owner_id, hint FROM secrets WHERE owner_id = ANY(%s) AND tenant_id = owner_id AND slot = 'current'",
        (list(ids),),
    )
    return {owner_id: hint async for owner_id, hint in rows}


def _tenant(id: UUID, name: str, created_at: datetime, version: int, unknown: str, rate: int) -> Tenant:
    return Tenant(id, name, created_at, version, UnknownEventTypes(unknown), rate)


def _no_client() -> NotFound:
    return NotFound("There is no client with this id.", field="id")


def _checked_name(name: str) -> str:
    if not 1 <= len(name) <= _MAX_NAME or not name.isprintable():
        raise Invalid(f"name must be 1 to {_MAX_NAME} printable characters.", field="name")
    return name


async def find(conn: Conn, id: UUID) -> Tenant | None:
    """Return the tenant, or None."""
    return await _one(conn, id, None)


async def get(conn: Conn, id: UUID) -> Tenant:
    """Return the tenant; raise NotFound when there is none."""
    tenant = await find(conn, id)
    if tenant is None:
        raise _no_client()
    return tenant


async def get_locked(conn: Conn, id: UUID) -> Tenant:
    """Return the tenant, locked until the commit: what it is before a change. Raises NotFound."""
    await conn.execute("SELECT FROM tenants WHERE id = %s FOR NO KEY UPDATE", (id,))
    return await get(conn, id)


def audited_fields(tenant: Tenant) -> dict[str, Any]:
    """What the audit log shows of a client, by API names."""
    return audit.fields_of(tenant, ("name", "unknown_event_types", "rate_limit_per_sec"))


async def find_by_name(conn: Conn, name: str) -> Tenant | None:
    """Return the tenant of exactly this name, or None."""
    return await _one(conn, None, name)


async def _one(conn: Conn, id: UUID | None, name: str | None) -> Tenant | None:
    rows = await conn.execute(_SELECT + sql.SQL("WHERE id = %s OR name = %s"), (id, name))
    row = await rows.fetchone()
    return _tenant(*row) if row else None


async def bump(conn: Conn, tenant_id: UUID) -> None:
    """Tell every cache that the tenant's endpoints changed; call it last, for it locks the tenant until the commit."""
    await conn.execute("UPDATE tenants SET config_version = config_version + 1 WHERE id = %s", (tenant_id,))


async def rotate_secret(
    conn: Conn, tenant_id: UUID, *, vault: Vault, secret: str | None = None, overlap_s: int = 86_400
) -> tuple[str, datetime]:
    """Give the tenant a new secret, or the one given; return it with the time until which the old one signs too."""
    if secret is not None:
        check_secret(secret, field="secret")
    fresh = secret or new_secret()
    ends = await secrets.rotate(
        conn, tenant_id=tenant_id, owner_id=tenant_id, secret=fresh, vault=vault, overlap_s=overlap_s
    )
    return fresh, ends
