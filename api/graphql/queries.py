"""The root of queries. An unknown id answers null; every list is the client's own."""

from __future__ import annotations

import strawberry
from strawberry import UNSET

from api.graphql.context import RelayInfo
from api.graphql.ids import find_id
from api.graphql.inputs import DeliveryFilter, EventFilter, delivery_filter, event_filter, or_null
from api.graphql.needs import Needs
from api.graphql.nodes import (
    Delivery,
    Endpoint,
    Event,
    delivery_node,
    delivery_page,
    endpoint_node,
    event_node,
    find_endpoint,
)
from api.graphql.paging import Connection, first_and_after, listed
from api.graphql.stats import QueueStats, queue_stats_node
from relay.catalog import endpoints
from relay.catalog.endpoints import EndpointStatus
from relay.insight import counts
from relay.intake import events
from relay.tenancy.scopes import Scope

_READ = [Needs(scope=Scope.READ)]


@strawberry.type
class Query:
    """What can be looked at."""

    @strawberry.field(directives=_READ)
    async def event(self, info: RelayInfo, id: strawberry.ID) -> Event | None:
        """One event."""
        key = find_id(id)
        found = await info.context.loaders.events.load(key) if key else None
        return event_node(found) if found else None

    @strawberry.field(directives=_READ)
    async def events(
        self, info: RelayInfo, filter: EventFilter | None = UNSET, first: int | None = 20, after: str | None = UNSET
    ) -> Connection[Event]:
        """Events, newest first."""
        db, tenant_id = info.context.db, info.context.tenant_id
        at = first_and_after(first, after)
        wanted = event_filter(filter)
        return await listed(
            db,
            at,
            page=lambda conn, first, after: events.list_(conn, tenant_id, wanted, first=first, after=after),
            count=lambda conn: events.count(conn, tenant_id, wanted),
            node=event_node,
        )

    @strawberry.field(directives=_READ)
    async def delivery(self, info: RelayInfo, id: strawberry.ID) -> Delivery | None:
        """One delivery."""
        key = find_id(id)
        found = await info.context.loaders.deliveries.load(key) if key else None
        return delivery_node(found) if found else None

    @strawberry.field(directives=_READ)
    async def deliveries(
        self, info: RelayInfo, filter: DeliveryFilter | None = UNSET, first: int | None = 20, after: str | None = UNSET
    ) -> Connection[Delivery]:
        """Deliveries, newest first."""
        return await delivery_page(info, delivery_filter(filter), first=first, after=after)

    @strawberry.field(directives=_READ)
    async def endpoint(self, info: RelayInfo, id: strawberry.ID) -> Endpoint | None:
        """One endpoint."""
        key = find_id(id)
        return await find_endpoint(info, key) if key else None

    @strawberry.field(directives=_READ)
    async def endpoints(
        self, info: RelayInfo, status: EndpointStatus | None = UNSET, first: int | None = 20, after: str | None = UNSET
    ) -> Connection[Endpoint]:
        """Endpoints, newest first."""
        db, tenant_id = info.context.db, info.context.tenant_id
        at = first_and_after(first, after)
        wanted = or_null(status)
        return await listed(
            db,
            at,
            page=lambda conn, first, after: endpoints.list_(conn, tenant_id, status=wanted, first=first, after=after),
            count=lambda conn: endpoints.count(conn, tenant_id, status=wanted),
            node=endpoint_node,
        )

    @strawberry.field(directives=_READ)
    async def queue_stats(self, info: RelayInfo) -> QueueStats:
        """What waits, moves and is done: the client's, or for an operator of all clients."""
        caller = info.context.caller
        async with info.context.db.connection() as conn:
            found = await counts.queue_stats(conn, None if caller.sees_all_clients else caller.tenant_id)
        return queue_stats_node(found)
