"""Lines of the live view: what one says, who may see it, and which of them somebody asked for."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

import msgspec

from relay.catalog.subscriptions import check_pattern, matches
from relay.delivery.gates import Closed, Opened
from relay.delivery.outcomes import Cancelled, Dead, Delivered, Retry
from relay.delivery.record import Recorded
from relay.errors import Invalid

#: From the least to the most serious.
LEVELS = ("debug", "info", "warn", "error")
STATUSES = ("delivered", "retry", "dead", "cancelled", "circuit_open", "circuit_closed")
_LEVEL_OF = {
    "delivered": "info",
    "retry": "warn",
    "dead": "error",
    "cancelled": "info",
    "circuit_open": "error",
    "circuit_closed": "info",
}
_STATUS_OF = {Delivered: "delivered", Retry: "retry", Dead: "dead", Cancelled: "cancelled"}


def level_of(status: str) -> str:
    """How serious a status is."""
    return _LEVEL_OF[status]


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line; ids are named as in the logs. It holds no URL, header or body, for those may hold secrets."""

    at: str
    level: Literal["debug", "info", "warn", "error"]
    status: str
    tenant_id: UUID
    endpoint_id: UUID
    event_type: str | None = None
    event_id: UUID | None = None
    delivery_id: UUID | None = None
    reason: str | None = None
    attempt: int | None = None
    status_code: int | None = None
    duration_ms: float | None = None
    retry_in_s: float | None = None


def of_outcome(one: Recorded, *, now_s: float) -> Line:
    """Make the line of a recorded outcome."""
    delivery, attempt = one.delivery, one.attempt
    status = _STATUS_OF[type(one.outcome)]
    return Line(
        _iso(now_s),
        _LEVEL_OF[status],  # pyright: ignore[reportArgumentType]
        status,
        delivery.tenant_id,
        delivery.endpoint_id,
        one.event_type or None,
        delivery.event_id,
        delivery.id,
        one.outcome.reason.value,
        None if attempt is None else delivery.attempts + 1,
        None if attempt is None else attempt.status,
        None if attempt is None else round(attempt.total_ms, 1),
        round(one.outcome.delay_s, 1) if isinstance(one.outcome, Retry) else None,
    )


def of_circuit(one: Opened | Closed, *, now_s: float) -> Line:
    """Make the line of a circuit that has opened or closed."""
    if isinstance(one, Opened):
        return Line(_iso(now_s), "error", "circuit_open", one.tenant_id, one.endpoint_id)
    return Line(_iso(now_s), "info", "circuit_closed", one.tenant_id, one.endpoint_id)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which lines somebody asked for. Whatever is not said leaves nothing out; `level` is the least one."""

    types: Collection[str] = ()
    endpoints: Collection[UUID] = ()
    statuses: Collection[str] = ()
    level: str = "debug"

    @property
    def everything(self) -> bool:
        """Whether nothing is left out."""
        return not (self.types or self.endpoints or self.statuses) and self.level == LEVELS[0]

    def takes(self, line: Line) -> bool:
        """Tell whether the line is asked for."""
        return (
            (not self.endpoints or line.endpoint_id in self.endpoints)
            and (not self.statuses or line.status in self.statuses)
            and LEVELS.index(line.level) >= LEVELS.index(self.level)
            and (not self.types or (line.event_type is not None and self._takes_type(line.event_type)))
        )

    def _takes_type(self, event_type: str) -> bool:
        return any(matches(pattern, event_type) for pattern in self.types)


def wanted(*, type: str = "", endpoint: str = "", status: str = "", level: str = "") -> Wanted:
    """Read what somebody asked for; each but `level` may name several, with commas. Raises Invalid."""
    types, statuses = _parts(type), _parts(status)
    for pattern in types:
        check_pattern(pattern, field="type")
    if not set(statuses) <= set(STATUSES):
        raise Invalid(f"status must be of {', '.join(STATUSES)}.", field="status")
    if level and level not in LEVELS:
        raise Invalid(f"level must be one of {', '.join(LEVELS)}.", field="level")
    try:
        endpoints = frozenset(map(UUID, _parts(endpoint)))
    except ValueError as cause:
        raise Invalid("endpoint must be an endpoint's id.", field="endpoint") from cause
    return Wanted(types, endpoints, frozenset(statuses), level or "debug")


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _iso(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
