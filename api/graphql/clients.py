"""Clients (tenants) as GraphQL shows them, and what can be done with them."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import strawberry
from strawberry import UNSET

from api.graphql.context import RelayInfo
from api.graphql.ids import get_id
from api.graphql.needs import Needs
from api.graphql.paging import Connection, connect, first_and_after
from relay.catalog import secrets
from relay.errors import Forbidden, NotFound
from relay.tenancy import api_keys, tenants
from relay.tenancy.scopes import CLIENT_SCOPES, Scope
from relay.tenancy.tenants import ClientSpec, Tenant, UnknownEventTypes

_FIRST_KEY = "first"


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
        async with info.context.db.connection() as conn:
            return await secrets.hint(conn, tenant_id=self.key, owner_id=self.key)


@strawberry.input
class CreateClientInput:
    """A new client."""

    name: str
    unknown_event_types: UnknownEventTypes | None = UnknownEventTypes.ALLOW
    rate_limit_per_sec: int | None = 0


@strawberry.input
class UpdateClientInput:
    """What changes of a client."""

    name: str | None = UNSET
    unknown_event_types: UnknownEventTypes | None = UNSET
    rate_limit_per_sec: int | None = UNSET


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
        size, cursor = first_and_after(first, after)
        async with db.connection() as conn:
            page = await tenants.list_(conn, first=size, after=cursor)

        async def count() -> int | None:
            async with db.connection() as conn:
                return await tenants.count(conn)

        return connect(page, node=client_node, counter=count)


@strawberry.type
class ClientMutation:
    """What can be done with clients."""

    @strawberry.mutation(directives=[Needs(scope=Scope.OPERATOR)])
    async def create_client(self, info: RelayInfo, input: CreateClientInput) -> CreatedClient:
        """Make a client with a key and a secret of its own."""
        spec = ClientSpec(input.name, input.unknown_event_types, input.rate_limit_per_sec)
        async with info.context.db.transaction() as conn:
            tenant, secret = await tenants.create(conn, spec, vault=info.context.web.vault)
            _, key = await api_keys.create(conn, tenant.id, name=_FIRST_KEY, scopes=CLIENT_SCOPES)
        return CreatedClient(client=client_node(tenant), key=key, secret=secret)

    @strawberry.mutation(
        directives=[Needs(scope=Scope.ADMIN)],
        description="A client's own key changes its own client, and not the rate limit: that is the operator's.",
    )
    async def update_client(self, info: RelayInfo, id: strawberry.ID, input: UpdateClientInput) -> Client:
        """Change what is given; null leaves what is."""
        key = get_id(id, of="client")
        spec = ClientSpec(input.name or None, input.unknown_event_types or None, _given(input.rate_limit_per_sec))
        if not info.context.caller.is_operator:
            if key != info.context.tenant_id:
                raise NotFound("There is no client with this id.", field="id")
            if spec.rate_limit_per_sec is not None:
                raise Forbidden("Only an operator's key may change rateLimitPerSec.", field="rateLimitPerSec")
        async with info.context.db.transaction() as conn:
            changed = await tenants.update(conn, key, spec)
        await info.context.sending.types.refresh_soon()
        return client_node(changed)


def _given(value: int | None) -> int | None:
    return None if value is UNSET else value
