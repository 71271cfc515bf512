"""Figures as GraphQL shows them: of an endpoint, and of the queue."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import strawberry

from api.graphql.context import RelayInfo
from api.graphql.scalars import SafeInt
from relay.insight import counts, stats
from relay.insight.latencies import Percentiles


@strawberry.type(description="Of the last lastHours hours; failed and pending are of this moment.")
class EndpointStats:
    """What happened at an endpoint."""

    total_events: SafeInt = strawberry.field(description="Deliveries created.")
    delivered: SafeInt
    failed: SafeInt = strawberry.field(description="Waiting for a retry now.")
    pending: SafeInt = strawberry.field(description="Not final now, failed included.")
    dead: SafeInt
    attempts: SafeInt
    success_rate: float = strawberry.field(
        description="0..1: attempts answered 2xx / attempts; 1 when there were none."
    )
    avg_latency_ms: float = strawberry.field(description="Of attempts that got an answer; 0 when there were none.")
    endpoint_id: strawberry.Private[UUID]
    hours: strawberry.Private[int]

    @strawberry.field
    async def p50_latency_ms(self, info: RelayInfo) -> float:
        """What half of them did not exceed."""
        return (await self._percentiles(info)).p50_ms

    @strawberry.field
    async def p95_latency_ms(self, info: RelayInfo) -> float:
        """What 95 % of them did not exceed."""
        return (await self._percentiles(info)).p95_ms

    @strawberry.field
    async def p99_latency_ms(self, info: RelayInfo) -> float:
        """What 99 % of them did not exceed."""
        return (await self._percentiles(info)).p99_ms

    async def _percentiles(self, info: RelayInfo) -> Percentiles:
        return await info.context.loaders.percentiles(self.hours).load(self.endpoint_id) or Percentiles()


async def endpoint_stats(info: RelayInfo, endpoint_id: UUID, *, hours: int) -> EndpointStats:
    """Look an endpoint's figures up. Raises Invalid for hours that are not kept."""
    found = await info.context.loaders.stats(hours).load(endpoint_id) or stats.EndpointStats()
    return EndpointStats(
        total_events=SafeInt(found.created),
        delivered=SafeInt(found.delivered),
        failed=SafeInt(found.failed),
        pending=SafeInt(found.pending),
        dead=SafeInt(found.dead),
        attempts=SafeInt(found.attempts),
        success_rate=found.success_rate,
        avg_latency_ms=found.avg_latency_ms,
        endpoint_id=endpoint_id,
        hours=hours,
    )


@strawberry.type(
    description="pending = queued + delivering + failed = ready + held + delayed + delivering."
    " An accepted event that is not fanned out yet counts as one in queued."
)
class QueueStats:
    """The state of the queue."""

    queued: SafeInt = strawberry.field(description="Nothing tried yet.")
    pending: SafeInt = strawberry.field(description="Accepted and not final.")
    delivering: SafeInt
    processing: SafeInt = strawberry.field(description="The same as delivering (a name of older clients).")
    delayed: SafeInt = strawberry.field(description="Waiting for a time in the future: scheduled or retry.")
    delivered: SafeInt = strawberry.field(description="Of what is stored (RETENTION_DAYS).")
    failed: SafeInt = strawberry.field(description="Will be retried.")
    dead: SafeInt = strawberry.field(description="Dead and settled by nobody.")
    cancelled: SafeInt
    ready: SafeInt = strawberry.field(description="Could be sent now: what more workers would help.")
    held: SafeInt = strawberry.field(description="Due, but something stands before it: a paused endpoint, a gate.")
    oldest_age_seconds: float = strawberry.field(description="Of the oldest that is ready; 0: none.")
    as_of: datetime = strawberry.field(description="Counts are kept by the clock; this is their age.")


def queue_stats_node(found: counts.QueueStats) -> QueueStats:
    """Show the queue's counts; before the first count, as of the beginning of time."""
    return QueueStats(
        queued=SafeInt(found.queued),
        pending=SafeInt(found.pending),
        delivering=SafeInt(found.delivering),
        processing=SafeInt(found.delivering),
        delayed=SafeInt(found.delayed),
        delivered=SafeInt(found.delivered),
        failed=SafeInt(found.failed),
        dead=SafeInt(found.dead),
        cancelled=SafeInt(found.cancelled),
        ready=SafeInt(found.ready),
        held=SafeInt(found.held),
        oldest_age_seconds=found.oldest_age_s,
        as_of=found.as_of or datetime.fromtimestamp(0, UTC),
    )
