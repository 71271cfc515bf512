"""Why an event went where it went, or would: explainEvent and explain."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from uuid import UUID

import strawberry
from strawberry import UNSET

from api.graphql.context import RelayInfo
from api.graphql.gates import Gate, gate_node
from api.graphql.ids import find_id
from api.graphql.inputs import ExplainInput, or_null, request
from api.graphql.needs import Needs
from api.graphql.nodes import Delivery, Endpoint, delivery_node, find_endpoint
from api.graphql.payloads import shown_bytes
from api.graphql.scalars import Json
from relay import paging
from relay.insight import explain
from relay.insight.explain import FanoutReason
from relay.insight.foresee import Imagined, foresee
from relay.tenancy.scopes import Scope

_READ = [Needs(scope=Scope.READ)]


@strawberry.type(description="One endpoint's side of a fan-out.")
class FanoutDecision:
    """Whether an endpoint got an event, and why."""

    endpoint_id: strawberry.ID
    matched: bool
    why: FanoutReason
    clause: Json | None = strawberry.field(
        description="FILTERED_OUT: the first clause that failed, and what the event had there."
    )
    found: Json | None
    gate: Gate | None = strawberry.field(description="Why it is not being sent right now.")
    recorded: bool = strawberry.field(
        description="false: worked out now from the endpoint as it is today, not kept from the fan-out."
    )
    changed_since: bool = strawberry.field(
        description="true: worked out now, and the endpoint was changed after the fan-out: then it may have been another."
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
    failing = decision.failing
    return FanoutDecision(
        endpoint_id=strawberry.ID(str(decision.endpoint_id)),
        matched=decision.matched,
        why=decision.why,
        clause=Json(failing.clause) if failing else None,
        found=Json(failing.found) if failing and failing.found is not None else None,
        gate=gate_node(decision.gate) if decision.gate else None,
        recorded=decision.recorded,
        changed_since=decision.changed_since,
        decided_at=decision.decided_at,
        record=decision,
    )


@strawberry.type
class ExplainQuery:
    """Decisions to look at."""

    @strawberry.field(
        directives=_READ,
        description="Who got it and who did not, and why. Matches as recorded; the others worked out from the endpoints"
        " as they are now (recorded: false).",
    )
    async def explain_event(
        self, info: RelayInfo, id: strawberry.ID, endpoint_id: strawberry.ID | None = UNSET, first: int | None = 100
    ) -> list[FanoutDecision]:
        """Both sides of an event's fan-out."""
        only, size = or_null(endpoint_id), _size(first)
        key, endpoint = find_id(id), _only(only)
        if key is None or (only is not None and endpoint is None):
            return []
        shown = partial(shown_bytes, info)
        async with info.context.db.connection() as conn:
            decisions = await explain.explain(
                conn, info.context.tenant_id, key, endpoint_id=endpoint, first=size, shown=shown
            )
        return [decision_node(decision) for decision in decisions]

    @strawberry.field(
        directives=_READ,
        description="Who would get such an event, and why the others would not. Nothing is stored. Refused like sendEvent's.",
    )
    async def explain(
        self,
        info: RelayInfo,
        input: ExplainInput,
        endpoint_id: strawberry.ID | None = UNSET,
        first: int | None = 100,
    ) -> list[FanoutDecision]:
        """Both sides of a fan-out that has not been."""
        only, size = or_null(endpoint_id), _size(first)
        endpoint = _only(only)
        event = await info.context.sending.check(info.context.tenant_id, request(input))
        if only is not None and endpoint is None:
            return []
        imagined = Imagined(event.type or "", event.payload, event.headers)
        async with info.context.db.connection() as conn:
            decisions = await foresee(conn, info.context.tenant_id, imagined, endpoint_id=endpoint, first=size)
        return [decision_node(decision) for decision in decisions]


def _size(first: int | None) -> int:
    return paging.check_first(100 if first is None else first)


def _only(id: strawberry.ID | None) -> UUID | None:
    return find_id(id) if id is not None else None
