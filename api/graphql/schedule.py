"""Events with a time, as GraphQL takes them back."""

from __future__ import annotations

import strawberry

from api.graphql.audited import audited
from api.graphql.context import RelayInfo
from api.graphql.ids import get_id
from api.graphql.needs import Needs
from api.graphql.nodes import Event, event_node
from relay.intake import cancelling, events
from relay.tenancy.audit import Subject
from relay.tenancy.scopes import Scope

_SEND = [Needs(scope=Scope.SEND)]


@strawberry.type
class ScheduleMutation:
    """What can be done about an event that is to go out later."""

    @strawberry.mutation(directives=_SEND, description="CONFLICT once fan-out has begun; otherwise it is never sent.")
    async def cancel_scheduled_event(self, info: RelayInfo, id: strawberry.ID) -> Event:
        """Take an event back."""
        web, tenant_id, key = info.context.web, info.context.tenant_id, get_id(id, of="event")
        async with audited(info, Subject.EVENT, key) as change:
            shard = await cancelling.cancel(change.conn, tenant_id, key)
            record = await events.get(change.conn, tenant_id, key)
            change.before = {"scheduledAt": record.scheduled_at}
        if shard is not None:
            web.doorbell.ring(frozenset([shard]))
        return event_node(record)
