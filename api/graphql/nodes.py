"""The three nouns that lead to one another: events, their deliveries, and the endpoints these go to."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import strawberry
from strawberry import UNSET

from api.graphql.attempts import DeliveryAttempt, attempt_node, attempts_at_most
from api.graphql.context import RelayInfo
from api.graphql.destination_auth import EndpointCredentials
from api.graphql.endpoint_secrets import SignedEndpoint
from api.graphql.gates import CircuitState, Gate, circuit_of, gate_of
from api.graphql.inputs import or_null
from api.graphql.paging import Connection, first_and_after, listed
from api.graphql.payloads import PAYLOAD_MEANING, shown_payload
from api.graphql.policies import policy_fields
from api.graphql.scalars import Json, SafeInt
from api.graphql.stats import EndpointStats, endpoint_stats
from relay import paging
from relay.catalog import endpoints
from relay.delivery import deliveries
from relay.delivery.deliveries import DeliveryStatus
from relay.delivery.outcomes import Reason
from relay.ids import unix_time
from relay.intake import events
from relay.intake.accept import Accepted, NewEvent
from relay.intake.events import EventStatus, Progress

#: What stands for a tier where the event's own priority is not known any more.
_PRIORITIES = (1, 5, 10)
_NEW = Progress(status=EventStatus.QUEUED, attempts=0, delivered_at=None)


@strawberry.type(description="What a producer sent. It never changes; only erasure empties it.")
class Event:
    """An event, with what became of it on demand."""

    id: strawberry.ID
    event_type: str | None
    content_type: str
    headers: Json | None
    priority: int
    idempotency_key: str | None
    subject: str | None = strawberry.field(description="CloudEvents subject: whom it is about.")
    created_at: datetime
    scheduled_at: datetime | None = strawberry.field(
        description="When it was or will be fanned out, if a time was asked for."
    )
    key: strawberry.Private[UUID]
    #: As stored; None when it is erased or gone.
    content: strawberry.Private[bytes | None]
    endpoint_id: strawberry.Private[UUID | None]
    own_max_attempts: strawberry.Private[int | None]
    #: Set for what was accepted a moment ago: nothing can have become of it.
    known_progress: strawberry.Private[Progress | None]

    @strawberry.field(description=PAYLOAD_MEANING)
    def payload(self, info: RelayInfo) -> Json | None:
        """What was sent, as far as it is shown."""
        return shown_payload(info, self.event_type, self.content, content_type=self.content_type)

    @strawberry.field
    async def status(self, info: RelayInfo) -> EventStatus:
        """What has become of it."""
        return (await self._progress(info)).status

    @strawberry.field(description="The newest first; more by deliveries(filter: {eventId}).")
    async def deliveries(self, info: RelayInfo, first: int | None = 50) -> list[Delivery]:
        """Its newest deliveries."""
        size = paging.check_first(50 if first is None else first)
        found = await info.context.loaders.deliveries_of_events(size).load(self.key)
        return [delivery_node(record) for record in found or ()]

    @strawberry.field(description="Set on events sent by createEvent.")
    async def destination(self, info: RelayInfo) -> str | None:
        """The one URL it is for."""
        endpoint = await self._own_endpoint(info)
        return endpoint.url if endpoint else None

    @strawberry.field(description="All attempts of all its deliveries.")
    async def attempts(self, info: RelayInfo) -> int:
        """How many requests were made for it."""
        return (await self._progress(info)).attempts

    @strawberry.field(description="Of its one delivery; null for a fan-out.")
    async def max_attempts(self, info: RelayInfo) -> int | None:
        """How many requests are made for it at most."""
        endpoint = await self._own_endpoint(info)
        return attempts_at_most(self.own_max_attempts, endpoint) if endpoint else None

    @strawberry.field(description="When the last of its deliveries arrived; null until status is DELIVERED.")
    async def delivered_at(self, info: RelayInfo) -> datetime | None:
        """When all had it."""
        return (await self._progress(info)).delivered_at

    @strawberry.field(description="The newest 100 of all its deliveries, in order of time.")
    async def delivery_attempts(self, info: RelayInfo) -> list[DeliveryAttempt]:
        """The requests made for it."""
        found = await info.context.loaders.event_attempts.load(self.key)
        return [attempt_node(attempt) for attempt in found or ()]

    async def _progress(self, info: RelayInfo) -> Progress:
        return self.known_progress or await info.context.loaders.progress.load(self.key) or _NEW

    async def _own_endpoint(self, info: RelayInfo) -> endpoints.Endpoint | None:
        """The hidden endpoint of a createEvent's URL."""
        if self.endpoint_id is None:
            return None
        endpoint = await info.context.loaders.endpoints.load(self.endpoint_id)
        return endpoint if endpoint and endpoint.kind == "adhoc" else None


@strawberry.type(description="One event on its way to one endpoint.")
class Delivery:
    """A delivery, live or final."""

    id: strawberry.ID
    status: DeliveryStatus
    attempts: int
    next_attempt_at: datetime | None
    delivered_at: datetime | None
    reason: Reason | None = strawberry.field(description="Why it waits, died or was cancelled.")
    created_at: datetime
    sequence: SafeInt | None = strawberry.field(
        description="Place in its FIFO lane (X-Relay-Sequence); null elsewhere."
    )
    partition_key: str | None
    record: strawberry.Private[deliveries.Delivery]

    @strawberry.field
    async def event(self, info: RelayInfo) -> Event:
        """What is delivered."""
        record = await info.context.loaders.events.load(self.record.event_id)
        return event_node(record) if record else _outlived(self.record)

    @strawberry.field(description="Null for createEvent, and when the endpoint is gone for good.")
    async def endpoint(self, info: RelayInfo) -> Endpoint | None:
        """Where it goes."""
        return await find_endpoint(info, self.record.endpoint_id)

    @strawberry.field
    async def destination(self, info: RelayInfo) -> str:
        """The URL it goes to."""
        endpoint = await info.context.loaders.endpoints.load(self.record.endpoint_id)
        return endpoint.url if endpoint else ""

    @strawberry.field(description="maxRetries + 1, as it counts now.")
    async def max_attempts(self, info: RelayInfo) -> int:
        """How many requests are made for it at most."""
        loaders = info.context.loaders
        event = await loaders.events.load(self.record.event_id)
        endpoint = await loaders.endpoints.load(self.record.endpoint_id)
        return attempts_at_most(event.max_attempts if event else None, endpoint)

    @strawberry.field
    async def delivery_attempts(self, info: RelayInfo) -> list[DeliveryAttempt]:
        """The requests made for it, in order."""
        found = await info.context.loaders.attempts.load(self.record.id)
        return [attempt_node(attempt) for attempt in found or ()]

    @strawberry.field
    async def priority(self, info: RelayInfo) -> int:
        """The event's priority."""
        record = await info.context.loaders.events.load(self.record.event_id)
        return record.priority if record else _PRIORITIES[self.record.tier]

    @strawberry.field(description="The delivery this one repeats.")
    async def replay_of(self, info: RelayInfo) -> Delivery | None:
        """The one before."""
        old = self.record.replay_of
        found = await info.context.loaders.deliveries.load(old) if old else None
        return delivery_node(found) if found else None

    @strawberry.field(
        description="The delivery that repeats this one; a dead one with it is settled and not counted in queueStats.dead."
    )
    async def replayed_by(self, info: RelayInfo) -> Delivery | None:
        """The one after, the newest if there are several."""
        found = await info.context.loaders.replays.load(self.record.id)
        return delivery_node(found) if found else None


@strawberry.type
class Endpoint(SignedEndpoint, EndpointCredentials):
    """An endpoint: a URL with its subscription and delivery policy."""

    @strawberry.field
    async def circuit(self, info: RelayInfo) -> CircuitState:
        """Whether failures keep deliveries back."""
        return await circuit_of(info, self.key)

    @strawberry.field(description="What holds it back now; null: nothing.")
    async def gate(self, info: RelayInfo) -> Gate | None:
        """What holds it back now."""
        return await gate_of(info, self.key)

    @strawberry.field
    async def stats(self, info: RelayInfo, last_hours: int | None = 24) -> EndpointStats:
        """What happened there lately."""
        return await endpoint_stats(info, self.key, hours=24 if last_hours is None else last_hours)

    @strawberry.field
    async def deliveries(
        self, info: RelayInfo, status: DeliveryStatus | None = UNSET, first: int | None = 20, after: str | None = UNSET
    ) -> Connection[Delivery]:
        """Its deliveries, newest first."""
        filter = deliveries.DeliveryFilter(endpoint_id=self.key, status=or_null(status))
        return await delivery_page(info, filter, first=first, after=after)


def event_node(record: events.Event | NewEvent, *, accepted: Accepted | None = None) -> Event:
    """Show a stored event, or with `accepted` one that was stored a moment ago."""
    receipt = accepted or record
    assert isinstance(receipt, (Accepted, events.Event))
    return Event(
        id=strawberry.ID(str(receipt.id)),
        event_type=record.type,
        content=record.payload,
        content_type=record.content_type,
        headers=None if record.headers is None else Json(record.headers),
        priority=record.priority,
        idempotency_key=record.idempotency_key,
        subject=record.subject,
        created_at=receipt.created_at,
        scheduled_at=receipt.scheduled_at,
        key=receipt.id,
        endpoint_id=record.endpoint_id,
        own_max_attempts=record.max_attempts,
        known_progress=_NEW if accepted else None,
    )


def _outlived(record: deliveries.Delivery) -> Event:
    """Show of an event that is retired or archived what its delivery knows: a day goes, and what it led to later stays."""
    return Event(
        id=strawberry.ID(str(record.event_id)),
        event_type=None,
        content=None,
        content_type="",
        headers=None,
        priority=_PRIORITIES[record.tier],
        idempotency_key=None,
        subject=None,
        created_at=datetime.fromtimestamp(unix_time(record.event_id), UTC),
        scheduled_at=None,
        key=record.event_id,
        endpoint_id=None,
        own_max_attempts=None,
        known_progress=None,
    )


def delivery_node(record: deliveries.Delivery) -> Delivery:
    """Show a delivery."""
    return Delivery(
        id=strawberry.ID(str(record.id)),
        status=record.status,
        attempts=record.attempts,
        next_attempt_at=record.due_at,
        delivered_at=record.finished_at if record.status is DeliveryStatus.DELIVERED else None,
        reason=record.reason,
        created_at=record.created_at,
        sequence=None if record.seq is None else SafeInt(record.seq),
        partition_key=record.partition_key,
        record=record,
    )


async def delivery_page(
    info: RelayInfo, filter: deliveries.DeliveryFilter, *, first: int | None, after: str | None
) -> Connection[Delivery]:
    """Show a page of the client's deliveries."""
    db, tenant_id = info.context.db, info.context.tenant_id
    at = first_and_after(first, after)
    return await listed(
        db,
        at,
        page=lambda conn, first, after: deliveries.list_(conn, tenant_id, filter, first=first, after=after),
        count=lambda conn: deliveries.count(conn, tenant_id, filter),
        node=delivery_node,
    )


def endpoint_node(record: endpoints.Endpoint) -> Endpoint:
    """Show an endpoint."""
    return Endpoint(key=record.id, **policy_fields(record))


async def find_endpoint(info: RelayInfo, id: UUID) -> Endpoint | None:
    """Show an endpoint, unless it is unknown, deleted, or the hidden one of a URL."""
    record = await info.context.loaders.endpoints.load(id)
    if record is None or record.kind != "subscribed" or record.deleted_at is not None:
        return None
    return endpoint_node(record)
