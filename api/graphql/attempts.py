"""Attempts as GraphQL shows them."""

from __future__ import annotations

from datetime import datetime

import strawberry

from api.graphql.scalars import Json
from relay.catalog.endpoints import Endpoint
from relay.delivery.attempts import Attempt
from relay.delivery.outcomes import Reason


@strawberry.type(description="One HTTP request of a delivery, and what came back.")
class DeliveryAttempt:
    """An attempt."""

    id: strawberry.ID
    attempt_number: int
    status_code: int | None
    error: str | None = strawberry.field(description="One sentence.")
    reason: Reason
    duration_ms: int
    attempted_at: datetime
    response_body: str | None = strawberry.field(
        description="The beginning of the answer's body; bytes that are no UTF-8 are replaced."
    )
    response_body_truncated: bool
    response_headers: Json | None
    request_headers: Json | None = strawberry.field(description="As sent; secret values masked.")
    request_url: str
    timings: Json | None = strawberry.field(description="{dnsMs, connectMs, tlsMs, firstByteMs, totalMs}")
    peer_ip: str | None


def attempt_node(attempt: Attempt) -> DeliveryAttempt:
    """Show an attempt."""
    return DeliveryAttempt(
        id=strawberry.ID(attempt.id),
        attempt_number=attempt.n,
        status_code=attempt.status,
        error=attempt.error,
        reason=attempt.reason,
        duration_ms=round(attempt.total_ms),
        attempted_at=attempt.at,
        response_body=None if attempt.body is None else attempt.body.decode(errors="replace"),
        response_body_truncated=attempt.body_truncated,
        response_headers=_json(attempt.response_headers),
        request_headers=_json(attempt.request_headers),
        request_url=attempt.request_url,
        timings=Json(
            {
                "dnsMs": attempt.dns_ms,
                "connectMs": attempt.connect_ms,
                "tlsMs": attempt.tls_ms,
                "firstByteMs": attempt.first_byte_ms,
                "totalMs": attempt.total_ms,
            }
        ),
        peer_ip=attempt.peer_ip,
    )


def _json(headers: dict[str, str] | None) -> Json | None:
    return None if headers is None else Json(headers)


def attempts_at_most(own: int | None, endpoint: Endpoint | None) -> int:
    """How many requests are made at most: the event's own number, or one more than the endpoint's retries."""
    return own or (endpoint.max_retries + 1 if endpoint else 0)
