"""Relay's enums as GraphQL shows them: the words in capitals."""

from __future__ import annotations

from enum import Enum

import strawberry

from relay.catalog.destination_auth import EndpointAuthKind
from relay.catalog.endpoints import EndpointStatus
from relay.catalog.policies import FIFOHeadPolicy
from relay.catalog.transformations import TransformationFailure
from relay.delivery.deliveries import DeliveryStatus
from relay.delivery.gates import CircuitStatus
from relay.delivery.outcomes import Reason
from relay.delivery.signing import SignatureScheme
from relay.errors import Conflict, Forbidden, Invalid, NotFound, Throttled, Unauthenticated, Unavailable
from relay.insight.analytics import AnalyticsDimension
from relay.insight.buckets import Granularity
from relay.insight.explain import FanoutReason
from relay.intake.events import EventStatus
from relay.recovery.jobs import JobKind, JobStatus
from relay.tenancy.scopes import Scope
from relay.tenancy.tenants import UnknownEventTypes

_MEANINGS: dict[type[Enum], str | None] = {
    AnalyticsDimension: "STATUS: the status code, of attempts only; REASON: of attempts, and why deliveries ended.",
    CircuitStatus: None,
    DeliveryStatus: None,
    EndpointAuthKind: None,
    EndpointStatus: None,
    EventStatus: "Over the newest delivery per endpoint, the first that holds: DELIVERING, FAILED, QUEUED (open ones),"
    " DEAD, DELIVERED, CANCELLED; UNMATCHED: fanned out to nobody.",
    FanoutReason: None,
    Granularity: "The length of a bucket, in UTC; weeks begin on Monday.",
    JobKind: None,
    JobStatus: None,
    FIFOHeadPolicy: "After the last attempt of a lane's head: PARK it (dead) and go on, or BLOCK the lane until it is retried,"
    " cancelled or released.",
    Reason: "One word for column, log field, metric label and API (there in lower case).",
    Scope: None,
    SignatureScheme: "ED25519: signed with a private key (v1a), verified with Endpoint.publicKey.",
    TransformationFailure: "FAIL: the attempt fails and is retried. SEND_UNCHANGED: the stored event is sent as it is.",
    UnknownEventTypes: None,
}


def register_enums() -> None:
    """Make Relay's enums known to Strawberry, which `relay` knows nothing of."""
    for enum, meaning in _MEANINGS.items():
        strawberry.enum(enum, description=meaning)


@strawberry.enum(description="The seven errors of Relay.")
class ErrorCode(Enum):
    """The codes of `relay.errors`."""

    INVALID = Invalid.code
    UNAUTHENTICATED = Unauthenticated.code
    FORBIDDEN = Forbidden.code
    NOT_FOUND = NotFound.code
    CONFLICT = Conflict.code
    THROTTLED = Throttled.code
    UNAVAILABLE = Unavailable.code
