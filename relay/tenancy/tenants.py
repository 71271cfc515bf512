"""Tenants (the API says clients): whose data everything is. Each has a signing secret of its own, for createEvent."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from relay.catalog import secrets
from relay.catalog.secrets import Vault
from relay.db import Conn
from relay.delivery.signing import check_secret, new_secret
from relay.errors import Invalid, NotFound
from relay.ids import Uuid7

#: The one client of a system without auth.
DEFAULT_NAME = "default"
DEFAULT_ID = UUID("00000000-0000-7000-8000-000000000001")

_MAX_NAME = 255
_ids = Uuid7()


@dataclass(frozen=True, slots=True)
class Tenant:
    """A client; `config_version` grows with every change of its endpoints."""

    id: UUID
    name: str
    created_at: datetime
    config_version: int


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
        """INSERT INTO tenants (id, name) VALUES (%s, %s) ON CONFLICT (name) DO NOTHING
           RETURNING id, name, created_at, config_version""",
        (DEFAULT_ID if name == DEFAULT_NAME else _ids(), name),
    )
    row = await rows.fetchone()
    return Tenant(*row) if row else None


def _checked_name(name: str) -> str:
    if not 1 <= len(name) <= _MAX_NAME or not name.isprintable():
        raise Invalid(f"name must be 1 to {_MAX_NAME} printable characters.", field="name")
    return name


async def find(conn: Conn, id: UUID) -> Tenant | None:
    """Return the tenant, or None."""
    rows = await conn.execute("SELECT id, name, created_at, config_version FROM tenants WHERE id = %s", (id,))
    row = await rows.fetchone()
    return Tenant(*row) if row else None


async def get(conn: Conn, id: UUID) -> Tenant:
    """Return the tenant; raise NotFound when there is none."""
    tenant = await find(conn, id)
    if tenant is None:
        raise NotFound("There is no client with this id.")
    return tenant


async def rate_limit(conn: Conn, id: UUID) -> int:
    """Requests a second that the tenant may make; 0: the setting says."""
    rows = await conn.execute("SELECT rate_limit_per_sec FROM tenants WHERE id = %s", (id,))
    row = await rows.fetchone()
    return row[0] if row else 0


async def find_by_name(conn: Conn, name: str) -> Tenant | None:
    """Return the tenant of exactly this name, or None."""
    rows = await conn.execute("SELECT id, name, created_at, config_version FROM tenants WHERE name = %s", (name,))
    row = await rows.fetchone()
    return Tenant(*row) if row else None


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
