"""Trying a filter on an event that is not sent."""

from __future__ import annotations

from typing import Any

import msgspec
import strawberry
from strawberry import UNSET

from api.graphql.inputs import or_null
from api.graphql.needs import Needs
from api.graphql.scalars import Json
from relay.catalog.filter_trial import FilterTrial
from relay.tenancy.scopes import Scope


@strawberry.type
class FilterTestResult:
    """Whether a filter lets an event through, and if not, why."""

    matched: bool
    clause: Json | None = strawberry.field(default=None, description="The first clause that failed.")
    found: Json | None = None


@strawberry.type
class FilterMutation:
    """Filters to try."""

    @strawberry.mutation(directives=[Needs(scope=Scope.READ)])
    async def test_filter(
        self, filter: Json, payload: Json, headers: Json | None = UNSET, event_type: str | None = UNSET
    ) -> FilterTestResult:
        """Try a filter on an event; nothing is stored or sent."""
        given: dict[str, Any] = {"filter": filter, "headers": _value(headers), "event_type": or_null(event_type)}
        body: Any = payload
        refused = FilterTrial(**given).failing(body)
        if refused is None:
            return FilterTestResult(matched=True)
        found = None if refused.found is None else Json(refused.found)
        return FilterTestResult(matched=False, clause=Json(refused.clause), found=found)


def _value(json: Any) -> Any:
    return msgspec.json.decode(json) if isinstance(json, bytes) else None
