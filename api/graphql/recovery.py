"""Mutations on deliveries: again, now, or never."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

import strawberry
from strawberry import UNSET

from api.graphql.audited import Audited, audited, note
from api.graphql.context import RelayInfo
from api.graphql.enums import ErrorCode
from api.graphql.ids import find_id, get_id
from api.graphql.inputs import or_null
from api.graphql.needs import Needs
from api.graphql.nodes import Delivery, Event, delivery_node, event_node
from relay.catalog import endpoints
from relay.db import Conn
from relay.delivery import deliveries
from relay.delivery.deliveries import DeliveryStatus
from relay.errors import NotFound, RelayError
from relay.intake import events
from relay.recovery import batch
from relay.recovery.batch import Results
from relay.recovery.cancel import cancel
from relay.recovery.replay import replay_event, replay_to
from relay.recovery.retry import retry
from relay.tenancy.audit import Subject
from relay.tenancy.scopes import Scope

_MANAGE = [Needs(scope=Scope.MANAGE)]


@strawberry.type
class BatchRetryError:
    """Why one event of a batch was not retried."""

    event_id: strawberry.ID
    error: str
    code: ErrorCode


@strawberry.type
class BatchRetryResult:
    """What became of each event of a batch."""

    succeeded: list[Event]
    failed: list[BatchRetryError]
    total_requested: int
    total_succeeded: int


@strawberry.type
class RecoveryMutation:
    """What can be done about deliveries."""

    @strawberry.mutation(
        directives=_MANAGE,
        description="New deliveries for the dead and cancelled ones of this event; CONFLICT when there are none."
        " With endpointId: to that endpoint whatever came before.",
    )
    async def replay_event(
        self, info: RelayInfo, id: strawberry.ID, endpoint_id: strawberry.ID | None = UNSET
    ) -> Event:
        """Send an event once more."""
        web, tenant_id, key, only = (
            info.context.web,
            info.context.tenant_id,
            get_id(id, of="event"),
            or_null(endpoint_id),
        )
        async with audited(info, Subject.EVENT, key) as change:
            if only is None:
                await replay_event(change.conn, tenant_id, key, ids=web.ids)
            else:
                endpoint = get_id(only, of="endpoint")
                await replay_to(change.conn, tenant_id, key, endpoint, ids=web.ids)
                change.after = {"endpointId": endpoint}
        await web.hint(web.queue.wake_clock())
        async with web.db.connection() as conn:
            return event_node(await events.get(conn, tenant_id, key))

    @strawberry.mutation(
        directives=_MANAGE,
        description="FAILED: due now. DEAD or CANCELLED: a new delivery, returned. Else CONFLICT.",
    )
    async def retry_delivery(self, info: RelayInfo, id: strawberry.ID) -> Delivery:
        """Try a delivery again."""
        web, tenant_id = info.context.web, info.context.tenant_id
        key = get_id(id, of="delivery")
        async with audited(info, Subject.DELIVERY, key) as change:
            due = await retry(change.conn, tenant_id, key, ids=web.ids)
            change.after = {"dueDelivery": due}
        await web.hint(web.queue.wake_clock())
        async with web.db.connection() as conn:
            return delivery_node(await deliveries.get(conn, tenant_id, due))

    @strawberry.mutation(
        directives=_MANAGE,
        description="A waiting delivery is never sent again; a dead one is settled and leaves queueStats.dead."
        " CONFLICT while DELIVERING.",
    )
    async def cancel_delivery(self, info: RelayInfo, id: strawberry.ID) -> Delivery:
        """Give a delivery up."""
        tenant_id, key = info.context.tenant_id, get_id(id, of="delivery")
        async with audited(info, Subject.DELIVERY, key) as change:
            await cancel(change.conn, tenant_id, key)
        await info.context.web.hint(info.context.web.queue.wake_clock())
        async with info.context.db.connection() as conn:
            return delivery_node(await deliveries.get(conn, tenant_id, key))

    @strawberry.mutation(
        directives=_MANAGE, description="Each event's failed and dead deliveries, as retryDelivery. Up to 1 000 ids."
    )
    async def retry_events(self, info: RelayInfo, ids: list[strawberry.ID]) -> BatchRetryResult:
        """Retry these events."""
        batch.check_ids(ids)
        wanted = {text: find_id(text) for text in ids}
        web = info.context.web
        known = [key for key in wanted.values() if key is not None]
        results = await batch.retry_events(
            web.db, info.context.tenant_id, known, ids=web.ids, started=_started(info, batch.USUAL)
        )
        unknown = [text for text, key in wanted.items() if key is None]
        return await _result(info, results, unknown=unknown)

    @strawberry.mutation(
        directives=_MANAGE,
        description="status is FAILED, DEAD or CANCELLED; the oldest first; limit 1..1 000, default 100."
        " More is startReplay's work.",
    )
    async def retry_events_by_status(
        self, info: RelayInfo, status: DeliveryStatus, limit: int | None = UNSET
    ) -> BatchRetryResult:
        """Retry the oldest events in this status."""
        return await _retry_oldest(info, batch.check_status(status), limit=or_null(limit))

    @strawberry.mutation(directives=_MANAGE)
    async def retry_events_by_endpoint(
        self,
        info: RelayInfo,
        endpoint_id: strawberry.ID,
        status: DeliveryStatus | None = UNSET,
        limit: int | None = UNSET,
    ) -> BatchRetryResult:
        """Retry the oldest events at this endpoint: the failed and the dead ones, or those in this status."""
        only = or_null(status)
        key = get_id(endpoint_id, of="endpoint")
        async with info.context.db.connection() as conn:
            await endpoints.get(conn, info.context.tenant_id, key)
        statuses = batch.USUAL if only is None else batch.check_status(only)
        return await _retry_oldest(info, statuses, limit=or_null(limit), endpoint_id=key)


async def _retry_oldest(
    info: RelayInfo, statuses: frozenset[DeliveryStatus], *, limit: int | None, endpoint_id: UUID | None = None
) -> BatchRetryResult:
    web, tenant_id, size = info.context.web, info.context.tenant_id, batch.check_limit(limit)
    async with web.db.connection() as conn:
        found = await batch.oldest(conn, tenant_id, statuses, limit=size, endpoint_id=endpoint_id)
    results = await batch.retry_events(
        web.db,
        tenant_id,
        found,
        ids=web.ids,
        statuses=statuses,
        endpoint_id=endpoint_id,
        started=_started(info, statuses, endpoint_id=endpoint_id),
    )
    return await _result(info, results)


def _started(
    info: RelayInfo, statuses: frozenset[DeliveryStatus], *, endpoint_id: UUID | None = None
) -> Callable[[Conn, Sequence[UUID]], Awaitable[None]]:
    """How a batch writes its entry: with its first change, since it goes on in a second transaction."""

    async def write(conn: Conn, events: Sequence[UUID]) -> None:
        subject, subject_id = (Subject.ENDPOINT, endpoint_id) if endpoint_id else (Subject.EVENT, None)
        after = {"events": list(events), "statuses": sorted(statuses)}
        await note(info, subject, Audited(conn, subject_id, after=after))

    return write


async def _result(info: RelayInfo, results: Results, *, unknown: Sequence[str] = ()) -> BatchRetryResult:
    await info.context.web.hint(info.context.web.queue.wake_clock())
    async with info.context.db.connection() as conn:
        found = await events.find_many(
            conn, info.context.tenant_id, [id for id, error in results.items() if error is None]
        )
    failed = [_error(str(id), error) for id, error in results.items() if error is not None]
    failed += [_error(text, NotFound("There is no event with this id.")) for text in unknown]
    succeeded = [event_node(found[id]) for id in results if id in found]
    return BatchRetryResult(
        succeeded=succeeded,
        failed=failed,
        total_requested=len(results) + len(unknown),
        total_succeeded=len(succeeded),
    )


def _error(event_id: str, error: RelayError) -> BatchRetryError:
    return BatchRetryError(event_id=strawberry.ID(event_id), error=error.message, code=ErrorCode[error.code])
