"""The contract's input types, and how they become what the domain takes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
import strawberry
from strawberry import UNSET

from api.graphql.enums import DeliveryStatusEnum, ReasonEnum
from api.graphql.scalars import Json


@strawberry.input
class SendEventInput:
    """One event for every endpoint subscribed to its type."""

    event_type: str = strawberry.field(
        description="1..255 of a-z A-Z 0-9 _ . -, segments by dots; `relay.` is reserved."
    )
    payload: Json = strawberry.field(
        description="JSON, not null, up to MAX_PAYLOAD_BYTES; with a contentType other than JSON: base64 of its bytes."
    )
    headers: Json | None = UNSET
    priority: int | None = strawberry.field(default=5, description="1 (first) to 10.")
    deliver_at: datetime | None = strawberry.field(
        default=UNSET, description="Up to 30 days ahead; not together with delaySeconds. A past time means now."
    )
    delay_seconds: int | None = UNSET
    idempotency_key: str | None = strawberry.field(
        default=UNSET,
        description="Up to 255 characters, kept 24 h per client. Given twice and different: INVALID.",
    )
    content_type: str | None = "application/json"
    subject: str | None = UNSET


@strawberry.input
class CreateEventInput:
    """One event for one URL."""

    destination: str
    payload: Json
    headers: Json | None = UNSET
    priority: int | None = 5
    max_attempts: int | None = strawberry.field(default=UNSET, description="1..101; 1 is no retry. Default 11.")
    deliver_at: datetime | None = UNSET
    delay_seconds: int | None = UNSET
    content_type: str | None = "application/json"
    subject: str | None = UNSET


@strawberry.input
class CreateEndpointInput:
    """A new endpoint."""

    url: str
    event_types: list[str] = strawberry.field(
        description="Exact names, order.*, or * (which leaves out relay.*); 1..100."
    )
    description: str | None = UNSET
    max_retries: int | None = strawberry.field(
        default=UNSET, description="0..100; default 10, or the length of retrySchedule."
    )
    retry_backoff_ms: int | None = UNSET
    retry_backoff_max: int | None = UNSET
    retry_backoff_mult: float | None = UNSET
    retry_schedule: list[int] | None = UNSET
    timeout_ms: int | None = 30_000
    max_concurrency: int | None = 20
    custom_headers: Json | None = UNSET
    secret: str | None = strawberry.field(default=UNSET, description="Bring your own; else one is made.")


@strawberry.input
class UpdateEndpointInput:
    """Changes of an endpoint: what is absent stays, null clears to the default."""

    url: str | None = UNSET
    event_types: list[str] | None = UNSET
    description: str | None = UNSET
    max_retries: int | None = UNSET
    retry_backoff_ms: int | None = UNSET
    retry_backoff_max: int | None = UNSET
    retry_backoff_mult: float | None = UNSET
    retry_schedule: list[int] | None = UNSET
    timeout_ms: int | None = UNSET
    max_concurrency: int | None = UNSET
    custom_headers: Json | None = UNSET


@strawberry.input(description="All that is given must hold. since is inclusive, until exclusive, both on acceptance.")
class EventFilter:
    """Which events a list holds."""

    event_type: str | None = strawberry.field(
        default=None, description="Exact, or a pattern as in subscriptions: order.*"
    )
    since: datetime | None = None
    until: datetime | None = None
    idempotency_key: str | None = None
    subject: str | None = None
    delivery_status: DeliveryStatusEnum | None = strawberry.field(
        default=None, description="Events with at least one delivery in this status."
    )
    endpoint_id: strawberry.ID | None = None
    unmatched: bool | None = strawberry.field(default=None, description="true: fanned out to nobody.")


@strawberry.input
class DeliveryFilter:
    """Which deliveries a list holds."""

    status: DeliveryStatusEnum | None = None
    event_id: strawberry.ID | None = None
    endpoint_id: strawberry.ID | None = None
    event_type: str | None = None
    reason: ReasonEnum | None = None
    since: datetime | None = None
    until: datetime | None = None


_JSON_FIELDS = frozenset({"headers", "custom_headers"})


def given(input: object) -> dict[str, Any]:
    """The fields that were given, with header objects decoded; a payload stays the text it is."""
    return {
        name: msgspec.json.decode(value) if name in _JSON_FIELDS and isinstance(value, bytes) else value
        for name, value in vars(input).items()
        if value is not UNSET
    }
