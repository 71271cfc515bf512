"""The contract's input types, and how they become what the domain takes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any, TypeVar

import msgspec
import strawberry
from strawberry import UNSET
from strawberry.types import get_object_definition
from strawberry.types.arguments import InputContext
from strawberry.utils.str_converters import to_camel_case

from api.graphql.destination_auth import EndpointAuthInput, EndpointTLSInput
from api.graphql.ids import filter_id, get_id
from api.graphql.scalars import Json
from api.sending import Request
from relay.catalog.endpoints import EndpointStatus
from relay.catalog.policies import FIFOHeadPolicy, PayloadFormat
from relay.catalog.transformations import TransformationFailure
from relay.delivery import deliveries
from relay.delivery.deliveries import DeliveryStatus
from relay.delivery.outcomes import Reason
from relay.delivery.signing import SignatureScheme
from relay.intake import events
from relay.recovery.replay_spec import ReplaySpec


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
class ExplainInput:
    """An event that nobody has sent."""

    event_type: str
    payload: Json
    headers: Json | None = UNSET
    priority: int | None = 5


@strawberry.input
class CreateEndpointInput:
    """A new endpoint."""

    url: str
    event_types: list[str] = strawberry.field(
        description="Exact names, order.*, or * (which leaves out relay.*); 1..100."
    )
    description: str | None = UNSET
    filter: Json | None = UNSET
    transformation: str | None = UNSET
    transformation_on_error: TransformationFailure | None = TransformationFailure.FAIL
    fifo: bool | None = False
    fifo_partition_key: str | None = strawberry.field(
        default=UNSET, description="RFC 9535 without filters; no match: one lane for all of those."
    )
    fifo_on_dead: FIFOHeadPolicy | None = FIFOHeadPolicy.PARK
    max_retries: int | None = strawberry.field(
        default=UNSET, description="0..100; default 10, or the length of retrySchedule."
    )
    retry_backoff_ms: int | None = UNSET
    retry_backoff_max: int | None = UNSET
    retry_backoff_mult: float | None = UNSET
    retry_schedule: list[int] | None = UNSET
    terminal_status_codes: list[int] | None = strawberry.field(
        default=UNSET, description="Up to 100 of 100..599 without 2xx."
    )
    timeout_ms: int | None = 30_000
    rate_limit_per_sec: int | None = strawberry.field(default=0, description="0 (no limit) to 10 000.")
    max_concurrency: int | None = 20
    circuit_threshold: int | None = strawberry.field(default=5, description="1..1 000 failures in a row.")
    circuit_reset_ms: int | None = strawberry.field(default=300_000, description="100..86 400 000.")
    custom_headers: Json | None = UNSET
    secret_headers: Json | None = strawberry.field(default=UNSET, description="Stored encrypted, never shown again.")
    secret: str | None = strawberry.field(default=UNSET, description="Bring your own; else one is made.")
    signature: SignatureScheme | None = SignatureScheme.HMAC_SHA256
    auth: EndpointAuthInput | None = UNSET
    tls: EndpointTLSInput | None = UNSET
    format: PayloadFormat | None = PayloadFormat.RAW
    gzip: bool | None = False


@strawberry.input
class UpdateEndpointInput:
    """Changes of an endpoint: what is absent stays, null clears to the default."""

    url: str | None = UNSET
    event_types: list[str] | None = UNSET
    description: str | None = UNSET
    status: EndpointStatus | None = UNSET
    filter: Json | None = UNSET
    transformation: str | None = UNSET
    transformation_on_error: TransformationFailure | None = UNSET
    fifo: bool | None = strawberry.field(
        default=UNSET, description="Turning it off: CONFLICT while lanes hold work; drain first."
    )
    fifo_partition_key: str | None = strawberry.field(
        default=UNSET, description="CONFLICT while lanes hold work; drain first."
    )
    fifo_on_dead: FIFOHeadPolicy | None = UNSET
    max_retries: int | None = UNSET
    retry_backoff_ms: int | None = UNSET
    retry_backoff_max: int | None = UNSET
    retry_backoff_mult: float | None = UNSET
    retry_schedule: list[int] | None = UNSET
    terminal_status_codes: list[int] | None = UNSET
    timeout_ms: int | None = UNSET
    rate_limit_per_sec: int | None = UNSET
    max_concurrency: int | None = UNSET
    circuit_threshold: int | None = UNSET
    circuit_reset_ms: int | None = UNSET
    custom_headers: Json | None = UNSET
    secret_headers: Json | None = strawberry.field(default=UNSET, description="All of them: what is left out goes.")
    auth: EndpointAuthInput | None = UNSET
    tls: EndpointTLSInput | None = UNSET
    format: PayloadFormat | None = UNSET
    gzip: bool | None = UNSET


@strawberry.input(description="All that is given must hold. since is inclusive, until exclusive, both on acceptance.")
class EventFilter:
    """Which events a list holds."""

    event_type: str | None = strawberry.field(
        default=UNSET, description="Exact, or a pattern as in subscriptions: order.*"
    )
    since: datetime | None = UNSET
    until: datetime | None = UNSET
    idempotency_key: str | None = UNSET
    subject: str | None = UNSET
    delivery_status: DeliveryStatus | None = strawberry.field(
        default=UNSET, description="Events with at least one delivery in this status."
    )
    endpoint_id: strawberry.ID | None = UNSET
    unmatched: bool | None = strawberry.field(default=UNSET, description="true: fanned out to nobody.")


@strawberry.input
class DeliveryFilter:
    """Which deliveries a list holds."""

    status: DeliveryStatus | None = UNSET
    event_id: strawberry.ID | None = UNSET
    endpoint_id: strawberry.ID | None = UNSET
    event_type: str | None = UNSET
    reason: Reason | None = UNSET
    since: datetime | None = UNSET
    until: datetime | None = UNSET
    settled: bool | None = strawberry.field(
        default=UNSET,
        description="DEAD only: true those already replayed or cancelled, false those that still need somebody.",
    )


@strawberry.input(
    description="Which deliveries to repeat; with toEndpointId: which events to send there"
    " (a backfill of what it would have matched and never got)."
)
class ReplayInput:
    """What a replay is about."""

    since: datetime
    until: datetime
    event_types: list[str] | None = UNSET
    endpoint_id: strawberry.ID | None = UNSET
    statuses: list[DeliveryStatus] | None = strawberry.field(
        default=UNSET, description="Default DEAD. Ignored by a backfill."
    )
    to_endpoint_id: strawberry.ID | None = UNSET
    rate_per_sec: int | None = strawberry.field(
        default=UNSET, description="1..10 000; null: as fast as the endpoint's own limits."
    )
    dry_run: bool | None = strawberry.field(default=False, description="Counts only; the job is DONE at once.")


T = TypeVar("T")


def build(kind: type, values: Mapping[str, Any], _context: InputContext) -> object:
    """Make an input of what graphql-core has checked already; Strawberry's own way costs a fifth of a sendEvent."""
    built: object = object.__new__(kind)
    names = _python_names(kind)
    vars(built).update({names[name]: value for name, value in values.items()})
    return built


@cache
def _python_names(kind: type) -> dict[str, str]:
    return {to_camel_case(name): name for name in kind.__annotations__}


for _kind in (
    SendEventInput,
    CreateEventInput,
    ExplainInput,
    CreateEndpointInput,
    UpdateEndpointInput,
    EventFilter,
    DeliveryFilter,
    ReplayInput,
):
    get_object_definition(_kind, strict=True).from_input = build

_JSON_FIELDS = frozenset({"headers", "custom_headers", "secret_headers"})


def given(input: object) -> dict[str, Any]:
    """The fields that were given, by name, with header objects decoded; a payload stays the text it is."""
    return {
        name: msgspec.json.decode(value) if name in _JSON_FIELDS and isinstance(value, bytes) else value
        for name, value in vars(input).items()
    }


def or_null(value: T | None) -> T | None:
    """An argument that may be absent: null then."""
    return None if value is UNSET else value


def request(input: SendEventInput | CreateEventInput | ExplainInput, *, key: str | None = None) -> Request:
    """The event that a client wrote, with the idempotency key that came beside it."""
    fields = given(input)
    payload: bytes = fields.pop("payload")
    return Request(fields, payload, or_null(key))


def event_filter(filter: EventFilter | None) -> events.EventFilter:
    """The domain's filter; Invalid for an endpointId that cannot be an id."""
    if not filter:
        return events.EventFilter()
    fields = given(filter)
    fields["endpoint_id"] = filter_id(fields.get("endpoint_id"), field="endpointId")
    return events.EventFilter(**fields)


def delivery_filter(filter: DeliveryFilter | None) -> deliveries.DeliveryFilter:
    """The domain's filter; Invalid for an id that cannot be one."""
    if not filter:
        return deliveries.DeliveryFilter()
    fields = given(filter)
    fields["endpoint_id"] = filter_id(fields.get("endpoint_id"), field="endpointId")
    fields["event_id"] = filter_id(fields.get("event_id"), field="eventId")
    return deliveries.DeliveryFilter(**fields)


def replay_spec(input: ReplayInput) -> ReplaySpec:
    """What the domain takes; NotFound for an endpoint whose id cannot be one."""
    fields = given(input)
    for name in ("endpoint_id", "to_endpoint_id"):
        if fields.get(name) is not None:
            fields[name] = get_id(fields[name], of="endpoint")
    return ReplaySpec(**fields)
