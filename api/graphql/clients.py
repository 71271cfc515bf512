"""Clients (tenants) as GraphQL shows them, and what can be done with them.

An operator changes any client. A client's own admin changes what only the client itself feels. Its name is an operator's,
for a conflict would tell of other clients' names; its rate limit, too, which protects the others from it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import strawberry
from strawberry import UNSET

from api.auth import Caller
from api.graphql.audited import audited
from api.graphql.context import RelayInfo
from api.graphql.ids import get_id
from api.graphql.needs import Needs
from api.graphql.paging import Connection, first_and_after, listed
from relay.errors import Forbidden, Invalid, NotFound
from relay.tenancy import api_keys, tenants
from relay.tenancy.audit import Subject
from relay.tenancy.scopes import CLIENT_SCOPES, Scope
from relay.tenancy.tenants import ClientSpec, Tenant, UnknownEventTypes

_FIRST_KEY = "first"
_OPERATORS = {"name": "name", "rate_limit_per_sec": "rateLimitPerSec"}
_DEFAULTS: dict[str, Any] = {"unknown_event_types": UnknownEventTypes.ALLOW, "rate_limit_per_sec": 0}


@strawberry.type
class Client:
    """A client."""

    id: strawberry.ID
    name: str
    unknown_event_types: UnknownEventTypes = strawberry.field(description="What an event type nobody created means.")
    rate_limit_per_sec: int = strawberry.field(description="0: CLIENT_RATE_LIMIT_RPS.")
    created_at: datetime
    key: strawberry.Private[UUID]

    @strawberry.field(description="Last four characters of the secret that signs createEvent's deliveries.")
    async def secret_hint(self, info: RelayInfo) -> str:
        """The end of the client's secret."""
        hint = await info.context.loaders.secret_hints.load(self.key)
        if hint is None:
            raise NotFound("There is no secret.")
        return hint


@strawberry.input
class CreateClientInput:
    """A new client."""

    name: str
    unknown_event_types: UnknownEventTypes | None = UnknownEventTypes.ALLOW
    rate_limit_per_sec: int | None = 0


@strawberry.input
class UpdateClientInput:
    """Changes of a client: what is absent stays, null clears to the default."""

    name: str | None = strawberry.field(default=UNSET, description="For operators.")
    unknown_event_types: UnknownEventTypes | None = UNSET
    rate_limit_per_sec: int | None = strawberry.field(default=UNSET, description="For operators; up to 1 000 000.")


@strawberry.type(description="Key and secret are shown once; the key has SEND, READ, MANAGE and ADMIN.")
class CreatedClient:
    """A new client, its first key and its secret."""

    client: Client
    key: str
    secret: str


def client_node(tenant: Tenant) -> Client:
    """Show a client."""
    return Client(
        id=strawberry.ID(str(tenant.id)),
        name=tenant.name,
        unknown_event_types=tenant.unknown_event_types,
        rate_limit_per_sec=tenant.rate_limit_per_sec,
        created_at=tenant.created_at,
        key=tenant.id,
    )


@strawberry.type
class ClientQuery:
    """Clients to look at."""

    @strawberry.field(directives=[Needs(scope=Scope.READ)], description="The client this key belongs to, or acts for.")
    async def client(self, info: RelayInfo) -> Client:
        """The caller's client."""
        async with info.context.db.connection() as conn:
            return client_node(await tenants.get(conn, info.context.tenant_id))

    @strawberry.field(directives=[Needs(scope=Scope.OPERATOR)])
    async def clients(self, info: RelayInfo, first: int | None = 20, after: str | None = UNSET) -> Connection[Client]:
        """All clients, newest first."""
        db = info.context.db
        at = first_and_after(first, after)
        return await listed(
            db,
            at,
            page=lambda conn, first, after: tenants.list_(conn, first=first, after=after),
            count=tenants.count,
            node=client_node,
        )


@strawberry.type
class ClientMutation:
    """What can be done with clients."""

    @strawberry.mutation(directives=[Needs(scope=Scope.OPERATOR)])
    async def create_client(self, info: RelayInfo, input: CreateClientInput) -> CreatedClient:
        """Make a client with a key and a secret of its own."""
        spec = ClientSpec(input.name, input.unknown_event_types, input.rate_limit_per_sec)
        async with audited(info, Subject.CLIENT) as change:
            tenant, secret = await tenants.create(change.conn, spec, vault=info.context.web.vault)
            first, key = await api_keys.create(change.conn, tenant.id, name=_FIRST_KEY, scopes=CLIENT_SCOPES)
            change.tenant_id = change.subject_id = tenant.id
            change.after = {**tenants.audited_fields(tenant), "firstKey": first.prefix}
        return CreatedClient(client=client_node(tenant), key=key, secret=secret)

    @strawberry.mutation(
        directives=[Needs(scope=Scope.ADMIN)],
        description="A client's own key changes its own client, but neither its name nor its rate limit: they are the"
        " operator's.",
    )
    async def update_client(self, info: RelayInfo, id: strawberry.ID, input: UpdateClientInput) -> Client:
        """Change what is given; null clears to the default."""
        key = get_id(id, of="client")
        given: dict[str, Any] = {name: value for name, value in vars(input).items() if value is not UNSET}
        _check_may_change(info.context.caller, key, given)
        if given.get("name", "") is None:
            raise Invalid("name must not be null: a client has one.", field="name")
        spec = ClientSpec(**{name: _DEFAULTS[name] if value is None else value for name, value in given.items()})
        async with audited(info, Subject.CLIENT, key) as change:
            change.tenant_id = key
            before = await tenants.get_locked(change.conn, key)
            changed = await tenants.update(change.conn, key, spec)
            change.before, change.after = tenants.audited_fields(before), tenants.audited_fields(changed)
        await info.context.sending.types.refresh_soon()
        return client_node(changed)


def _check_may_change(caller: Caller, id: UUID, given: dict[str, Any]) -> None:
    if caller.is_operator:
        return
    if id != caller.tenant_id:
        raise NotFound("There is no client with this id.", field="id")
    for name, field in _OPERATORS.items():
        if name in given:
            raise Forbidden(f"Only an operator's key may change {field}.", field=field)
