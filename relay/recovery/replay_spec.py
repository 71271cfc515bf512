"""What a customer may ask of startReplay, with all limits."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from relay.catalog.policies import Patterns
from relay.delivery.deliveries import DeliveryStatus
from relay.errors import Invalid
from relay.specs import Spec, between

_STATUSES = (DeliveryStatus.DEAD, DeliveryStatus.CANCELLED, DeliveryStatus.DELIVERED)


class ReplaySpec(Spec):
    """Which deliveries to repeat, or with `to_endpoint_id` which events to send there. since <= creation < until."""

    since: datetime
    until: datetime
    event_types: Patterns | None = None
    endpoint_id: UUID | None = None
    statuses: list[DeliveryStatus] | None = None
    to_endpoint_id: UUID | None = None
    rate_per_sec: Annotated[int, between(1, 10_000)] | None = None
    dry_run: bool | None = None

    def __init__(self, /, **values: Any) -> None:
        """Check the values, one by one and together; raise Invalid with the first thing that is wrong."""
        super().__init__(**values)
        if self.since >= self.until:
            raise Invalid("since must be before until.", field="since")
        if self.endpoint_id is not None and self.to_endpoint_id is not None:
            raise Invalid("endpointId and toEndpointId exclude each other; give one.", field="toEndpointId")
        if self.statuses is not None and not self.statuses:
            raise Invalid("statuses must hold at least one status.", field="statuses")
        if not set(self.statuses or ()) <= set(_STATUSES):
            raise Invalid(
                "statuses may hold DEAD, CANCELLED and DELIVERED; all others are still open.", field="statuses"
            )

    @property
    def states(self) -> list[str]:
        """Name the states of the deliveries to repeat."""
        return [status.value for status in self.statuses or [DeliveryStatus.DEAD]]

    @property
    def own_endpoint_id(self) -> UUID | None:
        """Name the one endpoint that all of it is about, if there is one."""
        return self.to_endpoint_id or self.endpoint_id

    def as_json(self) -> dict[str, Any]:
        """Return what was given, as the API shows it and `from_json` reads it."""
        values = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        if self.statuses is not None:
            values["statuses"] = [status.name for status in self.statuses]
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> ReplaySpec:
        """Read what `as_json` wrote."""
        times = {name: datetime.fromisoformat(values[name]) for name in ("since", "until")}
        keys = {name: UUID(values[name]) for name in ("endpointId", "toEndpointId") if name in values}
        named = {"statuses": [DeliveryStatus[name] for name in values["statuses"]]} if "statuses" in values else {}
        return cls(**{**values, **times, **keys, **named})
