"""Active, paused, disabled: how an endpoint gets there, as GraphQL does it."""

from __future__ import annotations

from uuid import UUID

import strawberry
from strawberry import UNSET

from api.graphql.audited import audited_endpoint
from api.graphql.context import RelayInfo
from api.graphql.ids import get_id
from api.graphql.inputs import or_null
from api.graphql.needs import Needs
from api.graphql.nodes import Endpoint, endpoint_node
from relay.catalog import endpoints
from relay.catalog.endpoints import EndpointStatus
from relay.db import Conn
from relay.delivery import disabling, pausing
from relay.delivery.outcomes import Reason
from relay.tenancy.scopes import Scope

_MANAGE = [Needs(scope=Scope.MANAGE)]


@strawberry.type
class EndpointStateMutation:
    """What holds an endpoint back, and what lets it go on."""

    @strawberry.mutation(
        directives=_MANAGE,
        description="Holds what waits from now on and loses nothing; CONFLICT for a DISABLED endpoint.",
    )
    async def pause_endpoint(self, info: RelayInfo, id: strawberry.ID) -> Endpoint:
        """Hold an endpoint's deliveries back."""
        key = get_id(id, of="endpoint")
        async with audited_endpoint(info, key) as conn:
            await pausing.pause(conn, info.context.tenant_id, key)
        return await moved(info, key)

    @strawberry.mutation(
        directives=_MANAGE,
        description="Also re-enables a DISABLED endpoint. ratePerSec (1..10 000) paces what was held;"
        " null: the endpoint's own limits only.",
    )
    async def resume_endpoint(self, info: RelayInfo, id: strawberry.ID, rate_per_sec: int | None = UNSET) -> Endpoint:
        """Let an endpoint's deliveries go on."""
        key = get_id(id, of="endpoint")
        async with audited_endpoint(info, key) as conn:
            await pausing.resume(conn, info.context.tenant_id, key, rate_per_sec=or_null(rate_per_sec))
        return await moved(info, key)


async def move(conn: Conn, tenant_id: UUID, endpoint_id: UUID, status: EndpointStatus) -> None:
    """Bring an endpoint into a status; the caller commits, then calls `moved`. Raises NotFound, Conflict."""
    match status:
        case EndpointStatus.ACTIVE:
            await pausing.resume(conn, tenant_id, endpoint_id)
        case EndpointStatus.PAUSED:
            await pausing.pause(conn, tenant_id, endpoint_id)
        case EndpointStatus.DISABLED:
            await disabling.disable(conn, tenant_id, endpoint_id, reason=Reason.CANCELLED_BY_USER)


async def moved(info: RelayInfo, endpoint_id: UUID) -> Endpoint:
    """See to an endpoint's lanes after the commit that moved it, and show it. Raises NotFound."""
    async with info.context.db.transaction() as conn:
        record = await endpoints.get(conn, info.context.tenant_id, endpoint_id)
        if record.status is EndpointStatus.PAUSED:
            await pausing.take_back(conn, endpoint_id)
        else:
            await pausing.ring_lanes(conn, endpoint_id)
    web = info.context.web
    await web.hint(web.queue.wake_clock())
    return endpoint_node(record)
