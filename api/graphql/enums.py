"""Relay's enums as GraphQL shows them: the words in capitals."""

from __future__ import annotations

import strawberry

from relay.catalog.endpoints import EndpointStatus
from relay.delivery.deliveries import DeliveryStatus
from relay.delivery.outcomes import Reason
from relay.insight.explain import FanoutReason
from relay.intake.events import EventStatus
from relay.tenancy.scopes import Scope

for _enum, _meaning in {
    DeliveryStatus: None,
    EndpointStatus: None,
    EventStatus: "Over the newest delivery per endpoint, the first that holds: DELIVERING, FAILED, QUEUED (open ones),"
    " DEAD, DELIVERED, CANCELLED; UNMATCHED: fanned out to nobody.",
    FanoutReason: None,
    Reason: "One word for column, log field, metric label and API (there in lower case).",
    Scope: None,
}.items():
    strawberry.enum(_enum, description=_meaning)
