"""API keys: shown once, stored as a hash; a key is 256 random bits, so a plain SHA-256 is enough to look it up by."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from relay.db import Conn
from relay.errors import Invalid, NotFound
from relay.ids import Uuid7
from relay.paging import COUNT_LIMIT, NEWEST, Page, exact_count, page
from relay.tenancy import audit
from relay.tenancy.scopes import Scope

_MARK = "rly_"
_PREFIX_LENGTH = len(_MARK) + 8
_RANDOM_BYTES = 32
_LONGEST = timedelta(days=3_660)
_MAX_NAME = 255
_ids = Uuid7()


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it may be shown: never the key itself."""

    id: UUID
    tenant_id: UUID
    name: str
    prefix: str
    scopes: frozenset[Scope]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks, and what they may do; `key_id` is None without auth. Rate limit 0: CLIENT_RATE_LIMIT_RPS."""

    tenant_id: UUID
    scopes: frozenset[Scope]
    key_id: UUID | None
    name: str
    rate_limit_per_sec: int = 0


async def create(
    conn: Conn, tenant_id: UUID, *, name: str, scopes: Iterable[Scope], expires_at: datetime | None = None
) -> tuple[ApiKey, str]:
    """Make a key and return it with its text. Raises Invalid for a bad name, no scope, a time gone by."""
    wanted = sorted(set(scopes))
    if not wanted:
        raise Invalid("scopes must name at least one scope.", field="scopes")
    if not 1 <= len(name) <= _MAX_NAME or not name.isprintable():
        raise Invalid(f"name must be 1 to {_MAX_NAME} printable characters.", field="name")
    now = datetime.now(UTC)
    if expires_at is not None and not now < expires_at <= now + _LONGEST:
        raise Invalid("expiresAt must be in the future, and at most ten years ahead.", field="expiresAt")
    key = _MARK + secrets.token_urlsafe(_RANDOM_BYTES)
    rows = await conn.execute(
        """INSERT INTO api_keys (id, tenant_id, name, prefix, hash, scopes, expires_at)
           VALUES (%s, %s, %s, %s, %s, %s, %s)
           RETURNING id, tenant_id, name, prefix, scopes, created_at, expires_at, revoked_at, last_used_at""",
        (_ids(), tenant_id, name, key[:_PREFIX_LENGTH], _hash(key), [str(scope) for scope in wanted], expires_at),
    )
    return _api_key(*(await rows.fetchall())[0]), key


def audited_fields(key: ApiKey) -> dict[str, Any]:
    """What the audit log shows of a key, by API names."""
    return audit.fields_of(key, ("name", "prefix", "scopes", "expires_at"))


async def find_principal(conn: Conn, key: str) -> Principal | None:
    """Return who holds the key; unknown, expired and revoked keys all give None. Notes the use, to the minute."""
    rows = await conn.execute(
        """WITH k AS (
               SELECT k.id, k.tenant_id, k.scopes, k.name, k.last_used_at, t.rate_limit_per_sec
               FROM api_keys k JOIN tenants t ON t.id = k.tenant_id
               WHERE k.hash = %s AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())),
           used AS (
               UPDATE api_keys a SET last_used_at = date_trunc('minute', now()) FROM k
               WHERE a.id = k.id AND (k.last_used_at IS NULL OR k.last_used_at < date_trunc('minute', now())))
           SELECT tenant_id, scopes, id, name, rate_limit_per_sec FROM k""",
        (_hash(key),),
    )
    row = await rows.fetchone()
    return Principal(row[0], frozenset(map(Scope, row[1])), *row[2:]) if row else None


async def list_(conn: Conn, tenant_id: UUID, *, first: int, after: UUID | None = None) -> Page[ApiKey]:
    """Return the tenant's keys, newest first, the revoked and expired ones included."""
    rows = await conn.execute(
        """SELECT id, tenant_id, name, prefix, scopes, created_at, expires_at, revoked_at, last_used_at
           FROM api_keys WHERE tenant_id = %s AND id < %s ORDER BY id DESC LIMIT %s""",
        (tenant_id, after or NEWEST, first + 1),
    )
    return page([_api_key(*row) for row in await rows.fetchall()], first=first, after=after)


async def count(conn: Conn, tenant_id: UUID) -> int | None:
    """Count the tenant's keys; None above 10 000."""
    rows = await conn.execute(
        "SELECT count(*) FROM (SELECT FROM api_keys WHERE tenant_id = %s LIMIT %s) x", (tenant_id, COUNT_LIMIT + 1)
    )
    return exact_count((await rows.fetchall())[0][0])


async def revoke(conn: Conn, tenant_id: UUID, id: UUID) -> ApiKey:
    """End the key and return it; revoking it again changes nothing. Raises NotFound."""
    rows = await conn.execute(
        """UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE tenant_id = %s AND id = %s
           RETURNING id, tenant_id, name, prefix, scopes, created_at, expires_at, revoked_at, last_used_at""",
        (tenant_id, id),
    )
    row = await rows.fetchone()
    if row is None:
        raise NotFound("There is no API key with this id.", field="id")
    return _api_key(*row)


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def _api_key(id: UUID, tenant_id: UUID, name: str, prefix: str, scopes: list[str], *times: datetime | None) -> ApiKey:
    created_at, expires_at, revoked_at, last_used_at = times
    assert created_at is not None
    return ApiKey(
        id, tenant_id, name, prefix, frozenset(map(Scope, scopes)), created_at, expires_at, revoked_at, last_used_at
    )
