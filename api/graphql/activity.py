"""What moves at this moment, as GraphQL shows it: for `relay top`, and for whoever draws such a thing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import strawberry
from strawberry import UNSET

from api.graphql.context import RelayInfo
from api.graphql.inputs import or_null
from api.graphql.needs import Needs
from api.graphql.scalars import SafeInt
from relay import paging, presence
from relay.delivery import beats
from relay.delivery.gates import CircuitStatus
from relay.errors import Invalid
from relay.insight import activity
from relay.tenancy.scopes import Scope

_USUAL = timedelta(minutes=2)
_LONGEST = timedelta(hours=1)


@strawberry.type(description="An event that is not fanned out yet counts in normal, as does a scheduled one.")
class TierActivity:
    """What waits and moves in one tier."""

    ready: SafeInt
    held: SafeInt
    delayed: SafeInt
    delivering: SafeInt
    oldest_age_seconds: float = strawberry.field(description="Of the oldest that is ready; 0: none.")


@strawberry.type
class FailingEndpoint:
    """An endpoint with failed attempts."""

    endpoint_id: strawberry.ID
    url: str
    attempts: SafeInt
    failed_attempts: SafeInt = strawberry.field(description="Not answered 2xx.")
    circuit: CircuitStatus


@strawberry.type(description="The counts from created on begin with the minute of since; for one since they only grow.")
class Activity:
    """What moves at this moment."""

    since: datetime
    as_of: datetime = strawberry.field(description="Until when they are counted.")
    created: SafeInt = strawberry.field(description="Deliveries made.")
    delivered: SafeInt
    dead: SafeInt
    attempts: SafeInt
    failed_attempts: SafeInt = strawberry.field(description="Not answered 2xx.")
    high: TierActivity
    normal: TierActivity
    low: TierActivity
    circuits: SafeInt = strawberry.field(description="That are not closed.")
    workers: int | None = strawberry.field(description="Processes that beat; null to a client's key.")
    web_processes: int | None = strawberry.field(description="Processes that beat; null to a client's key.")
    tenant_id: strawberry.Private[UUID | None]

    @strawberry.field(description="Most failed attempts in the last five minutes.")
    async def failing(self, info: RelayInfo, first: int | None = 10) -> list[FailingEndpoint]:
        """The worst endpoints."""
        size = paging.check_first(10 if first is None else first)
        async with info.context.db.connection() as conn:
            found = await activity.failing(conn, self.tenant_id, limit=size)
        return [_failing_node(one) for one in found]


@strawberry.type
class ActivityQuery:
    """What moves."""

    @strawberry.field(
        directives=[Needs(scope=Scope.READ)],
        description="What moves now. since: at most an hour ago; null: two minutes ago.",
    )
    async def activity(self, info: RelayInfo, since: datetime | None = UNSET) -> Activity:
        """What moves: the client's, or for an operator of all clients."""
        caller = info.context.caller
        tenant_id = None if caller.sees_all_clients else caller.tenant_id
        async with info.context.db.connection() as conn:
            moved = await activity.moved(conn, tenant_id, since=_checked(or_null(since)))
            tiers = await activity.tiers(conn, tenant_id)
            circuits = await activity.circuits(conn, tenant_id)
            workers = await beats.alive(conn) if _sees_processes(info) else None
            web = (await presence.alive(conn))[0] if _sees_processes(info) else None
        return Activity(
            since=moved.since,
            as_of=moved.until or moved.since,
            created=SafeInt(moved.created),
            delivered=SafeInt(moved.delivered),
            dead=SafeInt(moved.dead),
            attempts=SafeInt(moved.attempts),
            failed_attempts=SafeInt(moved.failed_attempts),
            **{name: _tier_node(tier) for name, tier in tiers.items()},
            circuits=SafeInt(circuits),
            workers=workers,
            web_processes=web,
            tenant_id=tenant_id,
        )


def _sees_processes(info: RelayInfo) -> bool:
    return Scope.OPERATOR in info.context.caller.scopes


def _checked(since: datetime | None) -> datetime:
    now = datetime.now(UTC)
    if since is None:
        return now - _USUAL
    if since < now - _LONGEST:
        raise Invalid("since must be of the last hour.", field="since")
    return since


def _tier_node(tier: activity.Tier) -> TierActivity:
    return TierActivity(
        ready=SafeInt(tier.ready),
        held=SafeInt(tier.held),
        delayed=SafeInt(tier.delayed),
        delivering=SafeInt(tier.delivering),
        oldest_age_seconds=tier.oldest_age_s,
    )


def _failing_node(one: activity.Failing) -> FailingEndpoint:
    return FailingEndpoint(
        endpoint_id=strawberry.ID(str(one.endpoint_id)),
        url=one.url,
        attempts=SafeInt(one.attempts),
        failed_attempts=SafeInt(one.failed_attempts),
        circuit=CircuitStatus(one.circuit),
    )
