"""How a mutation runs that changes something: one transaction with its entry in the audit log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from api.graphql.context import RelayInfo
from relay.catalog import credentials, endpoints
from relay.catalog.endpoints import Endpoint
from relay.db import Conn
from relay.tenancy import audit
from relay.tenancy.audit import Change, Subject


@dataclass(slots=True)
class Audited:
    """A change under way: `conn` is its transaction. What it was before and is after is set on it, by API names."""

    conn: Conn
    subject_id: UUID | None
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    #: Whose entry it is, where that is not the client of the request.
    tenant_id: UUID | None = None


@asynccontextmanager
async def audited(info: RelayInfo, subject: Subject, subject_id: UUID | None = None) -> AsyncIterator[Audited]:
    """Lend a transaction that commits together with its entry; what raises in it leaves neither."""
    async with info.context.web.db.transaction() as conn:
        change = Audited(conn, subject_id)
        yield change
        await note(info, subject, change)


@asynccontextmanager
async def audited_endpoint(info: RelayInfo, endpoint_id: UUID) -> AsyncIterator[Conn]:
    """Lend a transaction that changes an endpoint, and note what it was before and is after. Raises NotFound."""
    async with audited(info, Subject.ENDPOINT, endpoint_id) as change:
        before = await endpoints.get_locked(change.conn, info.context.tenant_id, endpoint_id)
        change.before = await endpoint_fields(change.conn, before)
        yield change.conn
        after = await endpoints.get(change.conn, info.context.tenant_id, endpoint_id)
        change.after = await endpoint_fields(change.conn, after)


async def endpoint_fields(conn: Conn, endpoint: Endpoint) -> dict[str, Any]:
    """Return what an entry shows of an endpoint and of how Relay authenticates to it, as it is now."""
    secret = await credentials.audited_fields(conn, endpoint.tenant_id, endpoint.id)
    return {**endpoints.audited_fields(endpoint), **secret}


async def note(info: RelayInfo, subject: Subject, change: Audited) -> None:
    """Write the running mutation's entry: for a change whose transaction somebody else opens."""
    own, actor = info.context.tenant_id, info.context.actor
    tenant_id = change.tenant_id or own
    if tenant_id != own and actor.key_id:
        actor = replace(actor, acts_for=True)
    await audit.write(
        change.conn,
        tenant_id,
        Change(info.field_name, subject, change.subject_id, change.before, change.after),
        actor=actor,
        id=info.context.web.ids(),
    )
