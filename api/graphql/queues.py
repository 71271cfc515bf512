"""What waits, by priority and by FIFO lane, and what an operator does to a lane."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from uuid import UUID

import strawberry
from strawberry import UNSET

from api.graphql.audited import audited
from api.graphql.context import RelayInfo
from api.graphql.ids import find_id, get_id
from api.graphql.inputs import or_null
from api.graphql.needs import Needs
from api.graphql.nodes import Delivery, delivery_node
from api.graphql.scalars import SafeInt
from relay import paging
from relay.catalog import endpoints
from relay.db import Conn
from relay.delivery import fifo_lanes
from relay.insight import counts, fifo
from relay.specs import check_text
from relay.tenancy.audit import Subject
from relay.tenancy.scopes import Scope

_READ = [Needs(scope=Scope.READ)]
_MANAGE = [Needs(scope=Scope.MANAGE)]


@strawberry.type(
    description="What is ready, by tier: priorities 1-3, 4-7, 8-10. What is not fanned out yet is in no tier."
)
class PriorityQueueStats:
    """The queue by priority."""

    high: SafeInt
    normal: SafeInt
    low: SafeInt
    delayed: SafeInt


@strawberry.type
class FIFOQueueStats:
    """A FIFO lane with work."""

    endpoint_id: strawberry.ID
    partition_key: str = strawberry.field(description="Empty: the endpoint's one lane.")
    queue_length: SafeInt = strawberry.field(description="What waits; hasInFlight says whether one more is being sent.")
    is_locked: bool = strawberry.field(description="A worker has the lane, or a dead head blocks it: releaseFIFOLock.")
    has_in_flight: bool
    blocked_until: datetime | None = strawberry.field(
        description="When its head may be sent; null: now, or when somebody acts."
    )
    oldest_age_seconds: float
    head_id: strawberry.Private[UUID]

    @strawberry.field(description="The first in order, in whatever state; under BLOCK the dead one that blocks.")
    async def head(self, info: RelayInfo) -> Delivery | None:
        """What the lane waits for."""
        found = await info.context.loaders.deliveries.load(self.head_id)
        return delivery_node(found) if found else None


@strawberry.type
class FIFOEndpointStats:
    """The FIFO lanes of an endpoint."""

    endpoint_id: strawberry.ID
    total_partitions: SafeInt = strawberry.field(description="Lanes with work.")
    total_queued_messages: SafeInt
    key: strawberry.Private[UUID]

    @strawberry.field(description="The longest first.")
    async def partitions(self, info: RelayInfo, first: int | None = 50) -> list[FIFOQueueStats]:
        """Its lanes."""
        return await _longest(info, endpoint_id=self.key, first=50 if first is None else first)


@strawberry.type
class FIFODrainResult:
    """What a drain did."""

    endpoint_id: strawberry.ID
    partition_key: str | None
    messages_drained: SafeInt
    moved_to_standard: bool


@strawberry.type
class QueueQuery:
    """What waits."""

    @strawberry.field(directives=_READ)
    async def priority_queue_stats(self, info: RelayInfo) -> PriorityQueueStats:
        """What waits by priority: the client's, or for an operator of all clients."""
        caller = info.context.caller
        async with info.context.db.connection() as conn:
            found = await counts.priority_stats(conn, None if caller.sees_all_clients else caller.tenant_id)
        return PriorityQueueStats(
            high=SafeInt(found.high),
            normal=SafeInt(found.normal),
            low=SafeInt(found.low),
            delayed=SafeInt(found.delayed),
        )

    @strawberry.field(directives=_READ)
    async def fifo_queue_stats(self, info: RelayInfo, endpoint_id: strawberry.ID) -> FIFOEndpointStats | None:
        """The FIFO lanes of one endpoint."""
        key = find_id(endpoint_id)
        if key is None:
            return None
        async with info.context.db.connection() as conn:
            if await endpoints.find(conn, info.context.tenant_id, key) is None:
                return None
            lanes, waiting = await fifo.totals(conn, info.context.tenant_id, key)
        return FIFOEndpointStats(
            endpoint_id=strawberry.ID(str(key)),
            total_partitions=SafeInt(lanes),
            total_queued_messages=SafeInt(waiting),
            key=key,
        )

    @strawberry.field(name="activeFIFOQueues", directives=_READ, description="Lanes with work, the longest first.")
    async def active_fifo_queues(self, info: RelayInfo, first: int | None = 100) -> list[FIFOQueueStats]:
        """The client's FIFO lanes."""
        return await _longest(info, endpoint_id=None, first=100 if first is None else first)


@strawberry.type
class QueueMutation:
    """What can be done about a FIFO lane."""

    @strawberry.mutation(
        name="releaseFIFOLock",
        directives=_MANAGE,
        description="Ends the lane's lease (a late answer of its holder is fenced off) and, under BLOCK, skips a dead head."
        " False: nothing was held.",
    )
    async def release_fifo_lock(
        self, info: RelayInfo, endpoint_id: strawberry.ID, partition_key: str | None = UNSET
    ) -> bool:
        """Free a lane."""
        web, id, lane = info.context.web, get_id(endpoint_id, of="endpoint"), _lane(partition_key)
        async with audited(info, Subject.ENDPOINT, id) as change:
            await endpoints.get(change.conn, info.context.tenant_id, id)
            released = await fifo_lanes.release(change.conn, id, lane)
            change.after = {"partitionKey": lane, "released": released}
        await web.hint(web.queue.wake_clock())
        return released

    @strawberry.mutation(
        name="drainFIFOQueue",
        directives=_MANAGE,
        description="true: what waits becomes ordinary deliveries, order given up."
        " false: it is CANCELLED with reason DRAINED.",
    )
    async def drain_fifo_queue(
        self,
        info: RelayInfo,
        endpoint_id: strawberry.ID,
        partition_key: str | None = UNSET,
        move_to_standard: bool | None = True,  # noqa: FBT001, FBT002 - the contract's argument
    ) -> FIFODrainResult:
        """Empty a lane."""
        web, id, lane = info.context.web, get_id(endpoint_id, of="endpoint"), _lane(partition_key)
        moves = move_to_standard is not False
        drained = await _drain(info, id, lane, step=fifo_lanes.move_to_standard if moves else fifo_lanes.cancel_waiting)
        await web.hint(web.queue.wake_clock())
        return FIFODrainResult(
            endpoint_id=strawberry.ID(str(id)),
            partition_key=or_null(partition_key),
            messages_drained=SafeInt(drained),
            moved_to_standard=moves,
        )


async def _drain(
    info: RelayInfo, endpoint_id: UUID, lane: str, *, step: Callable[[Conn, UUID, str], Awaitable[int]]
) -> int:
    """Empty a lane, a transaction for every 5 000; return how many it was. The first one holds the audit's entry."""
    async with audited(info, Subject.ENDPOINT, endpoint_id) as change:
        await endpoints.get(change.conn, info.context.tenant_id, endpoint_id)
        drained = count = await step(change.conn, endpoint_id, lane)
        change.after = {"partitionKey": lane, "movedToStandard": step is fifo_lanes.move_to_standard}
    while count == fifo_lanes.AT_ONCE:
        async with info.context.db.transaction() as conn:
            await endpoints.get(conn, info.context.tenant_id, endpoint_id)
            count = await step(conn, endpoint_id, lane)
        drained += count
    return drained


def _lane(partition_key: str | None) -> str:
    key = or_null(partition_key) or ""
    check_text(key, field="partitionKey")
    return key


async def _longest(info: RelayInfo, *, endpoint_id: UUID | None, first: int) -> list[FIFOQueueStats]:
    size = paging.check_first(first)
    async with info.context.db.connection() as conn:
        found = await fifo.list_longest(conn, info.context.tenant_id, endpoint_id=endpoint_id, first=size)
    return [_queue_node(one) for one in found]


def _queue_node(queue: fifo.Queue) -> FIFOQueueStats:
    return FIFOQueueStats(
        endpoint_id=strawberry.ID(str(queue.endpoint_id)),
        partition_key=queue.partition_key,
        queue_length=SafeInt(queue.length),
        is_locked=queue.locked,
        has_in_flight=queue.in_flight,
        blocked_until=queue.blocked_until,
        oldest_age_seconds=queue.oldest_age_s,
        head_id=queue.head_id,
    )
