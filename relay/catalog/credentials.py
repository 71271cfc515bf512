"""What authenticates Relay to an endpoint, at rest: one sealed row for its secret headers, its auth, its TLS texts.

Write-only: what was given is opened to send, and `shown` tells the rest of the world what may be known of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import UUID

import msgspec
from psycopg.types.json import Jsonb

from relay.catalog.destination_auth import EndpointAuth, EndpointAuthKind, EndpointTLS, check_together
from relay.catalog.secrets import Vault
from relay.db import Conn
from relay.delivery.addresses import Guard, check_url
from relay.delivery.authorization import ClientTLS, Credentials
from relay.errors import Unavailable
from relay.tenancy.audit import Known, without_secrets

#: The fields that are kept here, each with its kind.
KINDS = {"secret_headers": "headers", "auth": "auth", "tls": "tls"}
_API_NAMES = {"secret_headers": "secretHeaders", "auth": "auth", "tls": "tls"}


class Given(Protocol):
    """What a customer writes about an endpoint; what is absent stays, None takes away."""

    @property
    def model_fields_set(self) -> set[str]:
        """The names of what was given."""
        ...

    @property
    def secret_headers(self) -> dict[str, str] | None:
        """Headers whose values nobody sees again."""
        ...

    @property
    def auth(self) -> EndpointAuth | None:
        """Who Relay is there."""
        ...

    @property
    def tls(self) -> EndpointTLS | None:
        """How Relay connects there."""
        ...


@dataclass(frozen=True, slots=True)
class Shown:
    """What may be seen of an endpoint's credentials: no part of a secret but a token's last four characters."""

    header_names: tuple[str, ...] = ()
    auth_kind: EndpointAuthKind | None = None
    auth_hint: str = ""
    token_url: str | None = None
    has_tls: bool = False
    certificate_subject: str | None = None
    certificate_expires_at: datetime | None = None
    custom_ca: bool = False


async def change(
    conn: Conn,
    *,
    tenant_id: UUID,
    endpoint_id: UUID,
    given: Given,
    custom_headers: Mapping[str, str],
    vault: Vault,
    guard: Guard,
) -> None:
    """Keep what is given and take away what is given as None; raise Invalid for what is wrong or does not fit.

    `custom_headers` are those the endpoint has from now on. The caller raises the endpoint's version and rolls back on
    an error.
    """
    names = given.model_fields_set & {*KINDS, "custom_headers"}
    if not names:
        return
    for name, kind in KINDS.items():
        if name not in names:
            continue
        row = _row(name, given, guard)
        if row is None:
            await conn.execute("DELETE FROM credentials WHERE endpoint_id = %s AND kind = %s", (endpoint_id, kind))
        else:
            await _store(conn, kind, *row, tenant_id=tenant_id, endpoint_id=endpoint_id, vault=vault)
    now = (await shown(conn, tenant_id, [endpoint_id])).get(endpoint_id, Shown())
    check_together(
        list(custom_headers), now.header_names, has_auth=now.auth_kind is not None, given=frozenset(names)
    )  # fmt: skip


def _row(name: str, given: Given, guard: Guard) -> tuple[Any, Any] | None:
    """What is sealed of a field and what is shown; None where the field takes away."""
    if name == "secret_headers":
        return (given.secret_headers, list(given.secret_headers)) if given.secret_headers else None
    if name == "auth":
        if given.auth is None:
            return None
        if given.auth.oauth2 is not None:
            check_url(given.auth.oauth2.token_url, guard=guard, field="auth.oauth2.tokenUrl")
        return given.auth.model_dump(exclude_none=True), given.auth.shown()
    if given.tls is None:
        return None
    tls, seen = given.tls.checked(now=datetime.now(UTC))
    return tls, seen


async def _store(
    conn: Conn, kind: str, secret: Any, seen: Any, *, tenant_id: UUID, endpoint_id: UUID, vault: Vault
) -> None:
    # The kind is sealed too: a row is of no use as another kind's, as it is of none as another endpoint's.
    box = vault.seal(msgspec.json.encode({"kind": kind, "secret": secret}).decode(), owner=endpoint_id)
    await conn.execute(
        """INSERT INTO credentials (endpoint_id, kind, tenant_id, sealed, key_id, shown) VALUES (%s, %s, %s, %s, %s, %s)
           ON CONFLICT (endpoint_id, kind) DO UPDATE
               SET sealed = excluded.sealed, key_id = excluded.key_id, shown = excluded.shown, updated_at = now()""",
        (endpoint_id, kind, tenant_id, box.sealed, box.key_id, Jsonb(seen)),
    )


async def remove(conn: Conn, endpoint_id: UUID) -> None:
    """Take away all that an endpoint has."""
    await conn.execute("DELETE FROM credentials WHERE endpoint_id = %s", (endpoint_id,))


async def shown(conn: Conn, tenant_id: UUID, endpoint_ids: Iterable[UUID]) -> dict[UUID, Shown]:
    """Return what may be seen of the credentials of the client's endpoints, by endpoint."""
    rows = await conn.execute(
        "SELECT endpoint_id, kind, shown FROM credentials WHERE tenant_id = %s AND endpoint_id = ANY(%s::uuid[])",
        (tenant_id, list(endpoint_ids)),
    )
    found: dict[UUID, Shown] = {}
    async for endpoint_id, kind, seen in rows:
        found[endpoint_id] = replace(found.get(endpoint_id, Shown()), **_seen(kind, seen))
    return found


async def audited_fields(conn: Conn, tenant_id: UUID, endpoint_id: UUID) -> dict[str, Known]:
    """Return what the audit log shows of an endpoint's credentials, by API names: those it has, each with its version."""
    rows = await conn.execute(
        "SELECT kind, shown, updated_at FROM credentials WHERE tenant_id = %s AND endpoint_id = %s",
        (tenant_id, endpoint_id),
    )
    names = {kind: _API_NAMES[name] for name, kind in KINDS.items()}
    return {names[kind]: Known(_in_log(seen), version) async for kind, seen, version in rows}


def _in_log(seen: Any) -> Any:
    return {name: without_secrets(value) for name, value in seen.items()} if isinstance(seen, dict) else seen


def _seen(kind: str, seen: Any) -> dict[str, Any]:
    if kind == "headers":
        return {"header_names": tuple(seen)}
    if kind == "auth":
        return {
            "auth_kind": EndpointAuthKind(seen["kind"]),
            "auth_hint": seen["hint"],
            "token_url": seen.get("token_url"),
        }
    expires = seen.get("expires_at")
    return {
        "has_tls": True,
        "certificate_subject": seen.get("subject"),
        "certificate_expires_at": datetime.fromisoformat(expires) if expires else None,
        "custom_ca": seen["custom_ca"],
    }


async def opened(
    conn: Conn, versions: Mapping[UUID, int], vault: Vault, unreadable: dict[UUID, str]
) -> dict[UUID, Credentials]:
    """Return what the requests to these endpoints carry, by endpoint; those without credentials are absent.

    An endpoint whose credentials cannot be read gets into `unreadable`, with a sentence that says why.
    """
    rows = await conn.execute(
        "SELECT endpoint_id, kind, sealed, key_id FROM credentials WHERE endpoint_id = ANY(%s::uuid[])",
        (list(versions),),
    )
    found: dict[UUID, Credentials] = {}
    async for endpoint_id, kind, sealed, key_id in rows:
        try:
            secret = _opened(bytes(sealed), kind, endpoint_id, vault, key_id=bytes(key_id))
        except Unavailable as cause:
            unreadable[endpoint_id] = str(cause)
            continue
        found[endpoint_id] = _with(
            found.get(endpoint_id, Credentials(endpoint_id, versions[endpoint_id])), kind, secret
        )
    return found


def _opened(sealed: bytes, kind: str, endpoint_id: UUID, vault: Vault, *, key_id: bytes) -> Any:
    content = msgspec.json.decode(vault.open(sealed, owner=endpoint_id, key_id=key_id))
    if content["kind"] != kind:
        raise Unavailable("An endpoint's credentials are not of the kind they are kept as.")
    return content["secret"]


def _with(before: Credentials, kind: str, secret: Any) -> Credentials:
    if kind == "headers":
        return replace(before, headers=tuple(secret.items()))
    if kind == "tls":
        return replace(before, tls=ClientTLS(**secret))
    auth = EndpointAuth.model_validate(secret)
    return replace(before, authorization=auth.authorization(), grant=auth.grant())
