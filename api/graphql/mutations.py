"""The root of mutations. What is refused leaves nothing behind; an unknown id is NOT_FOUND."""

from __future__ import annotations

from datetime import datetime

import strawberry
from strawberry import UNSET

from api.graphql.audited import audited, audited_endpoint, endpoint_fields
from api.graphql.clients import Client, client_node
from api.graphql.context import RelayInfo
from api.graphql.endpoint_states import move, moved
from api.graphql.ids import get_id
from api.graphql.inputs import (
    CreateEndpointInput,
    CreateEventInput,
    SendEventInput,
    UpdateEndpointInput,
    given,
    or_null,
    request,
)
from api.graphql.needs import Needs
from api.graphql.nodes import Delivery, Endpoint, Event, delivery_node, endpoint_node
from api.graphql.results import SendResult, send_result, sent_event_node
from relay.catalog import endpoints
from relay.catalog.endpoints import EndpointChange, EndpointSpec, EndpointStatus
from relay.catalog.transformations import check_code
from relay.delivery import deliveries, disabling, pausing
from relay.tenancy import tenants
from relay.tenancy.audit import Subject
from relay.tenancy.scopes import Scope

_SEND = [Needs(scope=Scope.SEND)]
_MANAGE = [Needs(scope=Scope.MANAGE)]
_ADMIN = [Needs(scope=Scope.ADMIN)]


@strawberry.type(description="The secret is shown once.")
class CreatedEndpoint:
    """A new endpoint and its secret."""

    endpoint: Endpoint
    secret: str


@strawberry.type
class ClientSecretRotation:
    """A client's new secret; the old one signs too until it expires."""

    client: Client
    new_secret: str
    previous_secret_expires_at: datetime


@strawberry.type
class Mutation:
    """What can be done."""

    @strawberry.mutation(
        directives=_SEND,
        description="Accepts one event for every endpoint subscribed to its type."
        " Same key, same request: the first event; another request: CONFLICT.",
    )
    async def send_event(self, info: RelayInfo, input: SendEventInput, idempotency_key: str | None = UNSET) -> Event:
        """Accept one event."""
        sent = await info.context.sending.send(info.context.tenant_id, request(input, key=idempotency_key))
        return await sent_event_node(info, sent)

    @strawberry.mutation(
        directives=_SEND,
        description="Up to 1 000; each item is accepted or refused on its own, in the order given."
        " One commit for the accepted ones.",
    )
    async def send_events(self, info: RelayInfo, inputs: list[SendEventInput]) -> list[SendResult]:
        """Accept many events."""
        results = await info.context.sending.send_all(info.context.tenant_id, [request(input) for input in inputs])
        return [await send_result(info, index, result) for index, result in enumerate(results)]

    @strawberry.mutation(
        directives=_SEND, description="Accepts one event for one URL; signed with the client's own secret."
    )
    async def create_event(
        self, info: RelayInfo, input: CreateEventInput, idempotency_key: str | None = UNSET
    ) -> Event:
        """Accept one event for one URL."""
        sent = await info.context.sending.send(info.context.tenant_id, request(input, key=idempotency_key))
        return await sent_event_node(info, sent)

    @strawberry.mutation(directives=_MANAGE)
    async def create_endpoint(self, info: RelayInfo, input: CreateEndpointInput) -> CreatedEndpoint:
        """Make an endpoint."""
        web = info.context.web
        spec = EndpointSpec(**given(input))
        id = web.ids()
        await check_code(web.sandbox, spec.transformation, tenant_id=info.context.tenant_id)
        async with audited(info, Subject.ENDPOINT, id) as change:
            record, secret = await endpoints.create(
                change.conn, info.context.tenant_id, spec, id=id, vault=web.vault, guard=web.guard
            )
            change.after = await endpoint_fields(change.conn, record)
        return CreatedEndpoint(endpoint=endpoint_node(record), secret=secret)

    @strawberry.mutation(directives=_MANAGE)
    async def update_endpoint(self, info: RelayInfo, id: strawberry.ID, input: UpdateEndpointInput) -> Endpoint:
        """Change an endpoint: what is absent stays, null clears to the default."""
        fields = given(input)
        status: EndpointStatus | None = fields.pop("status", UNSET)
        change = EndpointChange(**fields)
        web, tenant_id, key = info.context.web, info.context.tenant_id, get_id(id, of="endpoint")
        await check_code(web.sandbox, change.transformation, tenant_id=tenant_id)
        async with audited_endpoint(info, key) as conn:
            record = await endpoints.update(conn, tenant_id, key, change, vault=web.vault, guard=web.guard)
            if status is not UNSET:
                await move(conn, tenant_id, key, status or EndpointStatus.ACTIVE)
        return endpoint_node(record) if status is UNSET else await moved(info, key)

    @strawberry.mutation(
        directives=_MANAGE,
        description="Its waiting deliveries become CANCELLED with reason ENDPOINT_DELETED; history stays.",
    )
    async def delete_endpoint(self, info: RelayInfo, id: strawberry.ID) -> bool:
        """Take an endpoint away."""
        web, key = info.context.web, get_id(id, of="endpoint")
        async with audited(info, Subject.ENDPOINT, key) as change:
            before = await endpoints.get_locked(change.conn, info.context.tenant_id, key)
            change.before = await endpoint_fields(change.conn, before)
            await disabling.delete(change.conn, info.context.tenant_id, key)
        async with web.db.transaction() as conn:
            await pausing.ring_lanes(conn, key)
        await web.hint(web.queue.wake_clock())
        return True

    @strawberry.mutation(
        directives=_MANAGE,
        description="Sends a `relay.test` event (or an example of eventType) to this endpoint only,"
        " also when paused or disabled.",
    )
    async def test_endpoint(self, info: RelayInfo, id: strawberry.ID, event_type: str | None = UNSET) -> Delivery:
        """Send a test event."""
        tenant_id = info.context.tenant_id
        delivery_id = await info.context.web.send_test(tenant_id, get_id(id, of="endpoint"), or_null(event_type))
        async with info.context.db.connection() as conn:
            return delivery_node(await deliveries.get(conn, tenant_id, delivery_id))

    @strawberry.mutation(directives=_ADMIN, description="The secret that signs createEvent's deliveries.")
    async def rotate_client_secret(
        self, info: RelayInfo, secret: str | None = UNSET, overlap_seconds: int | None = 86_400
    ) -> ClientSecretRotation:
        """Give the client a new secret."""
        tenant_id = info.context.tenant_id
        async with audited(info, Subject.CLIENT, tenant_id) as change:
            fresh, ends_at = await tenants.rotate_secret(
                change.conn,
                tenant_id,
                vault=info.context.web.vault,
                secret=or_null(secret),
                overlap_s=86_400 if overlap_seconds is None else overlap_seconds,
            )
            client = await tenants.get(change.conn, tenant_id)
            change.after = {"secret": fresh, "previousExpiresAt": ends_at}
        return ClientSecretRotation(client=client_node(client), new_secret=fresh, previous_secret_expires_at=ends_at)
