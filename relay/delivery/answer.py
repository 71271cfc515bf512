"""What came back for a shipment: what it means for the delivery, and what is kept of it."""

from __future__ import annotations

import random
import time
from dataclasses import replace

from relay.delivery.echoes import without
from relay.delivery.flow import Shipment
from relay.delivery.masking import masked
from relay.delivery.outcomes import Outcome, Reason, decide
from relay.delivery.record import Attempt
from relay.delivery.retry import RetryPolicy, parse_retry_after
from relay.delivery.transport import Request, Response


def asked_to_wait(response: Response, policy: RetryPolicy) -> float | None:
    """Seconds that a 429 or 503 asks for (RFC 9110, section 10.2.3), up to the policy's longest delay."""
    if response.status not in (429, 503):
        return None
    asked_s = parse_retry_after(response.headers.get("retry-after", ""), now_s=time.time())
    return None if asked_s is None else min(asked_s, policy.longest_ms() / 1000)


def outcome_of(
    shipment: Shipment, reason: Reason, *, status: int | None = None, retry_after_s: float | None = None
) -> Outcome:
    """What an attempt that ended with `reason`, and an answer of `status` if one came, means for its delivery."""
    policy = shipment.destination.policy
    if shipment.content.max_attempts is not None:
        policy = replace(policy, max_retries=shipment.content.max_attempts - 1)
    attempts = shipment.delivery.attempts + 1
    return decide(reason, policy, attempts=attempts, random=random.random, status=status, retry_after_s=retry_after_s)


def attempt_of(request: Request, response: Response, reason: Reason) -> Attempt:
    """What is kept of a request and its answer, secrets masked."""
    timings, names = response.timings, frozenset[str]()
    if request.credentials is not None:
        names = request.credentials.names()
        response = without(response, request.credentials.secrets())
    return Attempt(
        reason=reason,
        url=request.url,
        total_ms=timings.total_ms,
        status=response.status or None,
        error=response.error,
        request_headers=masked(request.headers, secret=names),
        response_headers=masked(response.headers.items()),
        body=response.body,
        body_truncated=response.body_truncated,
        peer_ip=response.peer_ip,
        dns_ms=timings.dns_ms,
        connect_ms=timings.connect_ms,
        tls_ms=timings.tls_ms,
        first_byte_ms=timings.first_byte_ms,
    )
