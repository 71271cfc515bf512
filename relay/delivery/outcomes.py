"""What an attempt meant. `Reason` is the one word for column, log field, metric label and API."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from relay.delivery.retry import RetryPolicy, retry_delay_s


class Reason(StrEnum):
    """Why an attempt ended as it did, or why a delivery waits, died or was cancelled."""

    OK = "ok"
    DNS_FAILED = "dns_failed"
    CONNECTION_REFUSED = "connection_refused"
    CONNECTION_RESET = "connection_reset"
    CONNECT_TIMEOUT = "connect_timeout"
    TLS_FAILED = "tls_failed"
    PROXY_FAILED = "proxy_failed"
    RESPONSE_TIMEOUT = "response_timeout"
    MALFORMED_RESPONSE = "malformed_response"
    ADDRESS_FORBIDDEN = "address_forbidden"
    AUTH_FAILED = "auth_failed"
    TRANSFORMATION_FAILED = "transformation_failed"
    HTTP_REDIRECT = "http_redirect"
    HTTP_CLIENT_ERROR = "http_client_error"
    HTTP_SERVER_ERROR = "http_server_error"
    THROTTLED = "throttled"
    GONE = "gone"
    TERMINAL_STATUS = "terminal_status"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    ENDPOINT_DISABLED = "endpoint_disabled"
    EXPIRED = "expired"
    WORKER_LOST = "worker_lost"
    UNRECORDABLE = "unrecordable"
    ENDPOINT_DELETED = "endpoint_deleted"
    CANCELLED_BY_USER = "cancelled_by_user"
    CANCELLED_BY_TRANSFORMATION = "cancelled_by_transformation"
    DRAINED = "drained"
    ERASED = "erased"
    SCHEDULED = "scheduled"
    PAUSED = "paused"
    CIRCUIT_OPEN = "circuit_open"
    RATE_LIMITED = "rate_limited"
    BUSY = "busy"
    LANE_BLOCKED = "lane_blocked"


@dataclass(frozen=True, slots=True)
class Delivered:
    """The receiver has it."""

    reason: Reason = Reason.OK


@dataclass(frozen=True, slots=True)
class Retry:
    """It waits in its lane and is tried again after `delay_s` seconds."""

    reason: Reason
    delay_s: float


@dataclass(frozen=True, slots=True)
class Dead:
    """It is not tried again."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Somebody took it back before it was sent."""

    reason: Reason


Outcome = Delivered | Retry | Dead | Cancelled


def reason_of(status: int) -> Reason:
    """What an HTTP status means for a delivery."""
    if 200 <= status < 300:
        return Reason.OK
    if 300 <= status < 400:
        return Reason.HTTP_REDIRECT
    if status == 429:
        return Reason.THROTTLED
    if status == 410:
        return Reason.GONE
    return Reason.HTTP_CLIENT_ERROR if 400 <= status < 500 else Reason.HTTP_SERVER_ERROR


def decide(
    reason: Reason,
    policy: RetryPolicy,
    *,
    attempts: int,
    random: Callable[[], float],
    status: int | None = None,
    retry_after_s: float | None = None,
) -> Outcome:
    """What `attempts` attempts mean for the delivery; the last ended with `reason`, by an answer of `status` if one came.

    Every failure is tried again, but for 410 and the policy's terminal status codes.
    """
    if reason is Reason.OK:
        return Delivered()
    if reason is Reason.GONE:
        return Dead(reason)
    if status in policy.terminal:
        return Dead(Reason.TERMINAL_STATUS)
    delay_s = retry_delay_s(policy, attempts=attempts, random=random, retry_after_s=retry_after_s)
    if delay_s is None:
        return Dead(Reason.ATTEMPTS_EXHAUSTED)
    return Retry(reason, delay_s)
