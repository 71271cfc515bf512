"""explainEvent's answers as GraphQL shows them."""

from __future__ import annotations

from datetime import datetime

import strawberry

from api.graphql.context import RelayInfo
from api.graphql.gates import Gate, gate_node
from api.graphql.nodes import Delivery, Endpoint, delivery_node, find_endpoint
from relay.insight import explain
from relay.insight.explain import FanoutReason


@strawberry.type(description="One endpoint's side of a fan-out.")
class FanoutDecision:
    """Whether an endpoint got an event, and why."""

    endpoint_id: strawberry.ID
    matched: bool
    why: FanoutReason
    gate: Gate | None = strawberry.field(description="Why it is not being sent right now.")
    recorded: bool = strawberry.field(
        description="false: worked out now from the endpoint as it is today, not kept from the fan-out."
    )
    decided_at: datetime
    record: strawberry.Private[explain.FanoutDecision]

    @strawberry.field
    async def endpoint(self, info: RelayInfo) -> Endpoint | None:
        """The endpoint, unless it is gone or a createEvent's URL."""
        return await find_endpoint(info, self.record.endpoint_id)

    @strawberry.field
    async def delivery(self, info: RelayInfo) -> Delivery | None:
        """The delivery, when it matched."""
        if self.record.delivery_id is None:
            return None
        found = await info.context.loaders.deliveries.load(self.record.delivery_id)
        return delivery_node(found) if found else None


def decision_node(decision: explain.FanoutDecision) -> FanoutDecision:
    """Show a decision."""
    return FanoutDecision(
        endpoint_id=strawberry.ID(str(decision.endpoint_id)),
        matched=decision.matched,
        why=decision.why,
        gate=gate_node(decision.gate) if decision.gate else None,
        recorded=decision.recorded,
        decided_at=decision.decided_at,
        record=decision,
    )
