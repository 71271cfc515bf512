"""Clients (tenants) as GraphQL shows them."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import strawberry

from api.graphql.context import RelayInfo
from relay.catalog import secrets
from relay.tenancy.tenants import Tenant


@strawberry.type
class Client:
    """A client."""

    id: strawberry.ID
    name: str
    created_at: datetime
    key: strawberry.Private[UUID]

    @strawberry.field(description="Last four characters of the secret that signs createEvent's deliveries.")
    async def secret_hint(self, info: RelayInfo) -> str:
        """The end of the client's secret."""
        async with info.context.db.connection() as conn:
            return await secrets.hint(conn, tenant_id=self.key, owner_id=self.key)


def client_node(tenant: Tenant) -> Client:
    """Show a client."""
    return Client(id=strawberry.ID(str(tenant.id)), name=tenant.name, created_at=tenant.created_at, key=tenant.id)
