"""What an endpoint is and how it wants to be treated: those fields of Endpoint that are columns."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime
from typing import Any

import strawberry

from api.graphql.scalars import Json
from relay.catalog.endpoints import Endpoint, EndpointStatus
from relay.catalog.policies import FIFOHeadPolicy, PayloadFormat
from relay.catalog.transformations import TransformationFailure
from relay.delivery.outcomes import Reason


@strawberry.type
class EndpointPolicy:
    """An endpoint's own columns; the type Endpoint adds what is looked up."""

    id: strawberry.ID
    url: str
    description: str | None
    event_types: list[str]
    status: EndpointStatus
    filter: Json | None
    fifo: bool
    fifo_partition_key: str | None
    max_retries: int
    retry_backoff_ms: int = strawberry.field(
        description="Used when retrySchedule is null: retryBackoffMs * retryBackoffMult^(n-1), at most retryBackoffMax."
    )
    retry_backoff_max: int
    retry_backoff_mult: float
    retry_schedule: list[int] | None = strawberry.field(
        description="Delays in ms before retry 1, 2, ...; the last repeats. Setting a backoff field clears it."
    )
    timeout_ms: int = strawberry.field(description="100..120 000, from connect to the last byte.")
    rate_limit_per_sec: int = strawberry.field(description="0: no limit.")
    max_concurrency: int
    circuit_threshold: int
    circuit_reset_ms: int
    custom_headers: Json | None
    transformation: str | None
    created_at: datetime
    updated_at: datetime
    disabled_reason: Reason | None = strawberry.field(description="Why and since when it is DISABLED.")
    disabled_at: datetime | None
    terminal_status_codes: list[int] = strawberry.field(description="Status codes that end a delivery at once.")
    fifo_on_dead: FIFOHeadPolicy
    transformation_version: int | None = strawberry.field(
        description="Grows by one with each change of transformation."
    )
    transformation_on_error: TransformationFailure
    format: PayloadFormat = strawberry.field(description="What stands around an event's payload.")
    gzip: bool = strawberry.field(description="Bodies are compressed; the signature is of what is sent.")


def policy_fields(record: Endpoint) -> dict[str, Any]:
    """Return an endpoint's columns as its node shows them, by name."""
    shown = {field.name: getattr(record, field.name) for field in fields(EndpointPolicy)}
    headers = None if record.custom_headers is None else Json(record.custom_headers)
    filter = None if record.filter is None else Json(record.filter.encode())
    return {**shown, "id": strawberry.ID(str(record.id)), "custom_headers": headers, "filter": filter}
