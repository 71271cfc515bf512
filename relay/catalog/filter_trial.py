"""testFilter: what a filter says of an event that nobody sends."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from relay.catalog.filters import Failing, Seen, compile_filter
from relay.catalog.headers import check_headers
from relay.catalog.policies import FilterText
from relay.errors import Invalid
from relay.specs import Spec, Text


def _headers(headers: dict[str, str]) -> dict[str, str]:
    check_headers(headers, field="headers")
    return headers


class FilterTrial(Spec):
    """A filter and, beside the payload, what it may ask for."""

    filter: FilterText
    headers: Annotated[dict[str, str], AfterValidator(_headers)] | None = None
    event_type: Text | None = None

    def failing(self, payload: bytes) -> Failing | None:
        """Return what keeps an event with this payload out, None when it passes; raise Invalid when neither can be said."""
        refused = compile_filter(self.filter).failing(Seen(payload, self.headers, self.event_type))
        if refused is not None and refused.error is not None:
            raise Invalid(f"filter cannot be evaluated on this event: {refused.error}", field="filter")
        return refused
