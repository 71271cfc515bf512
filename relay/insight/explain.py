"""Who got an event, who did not, and why: matches as recorded, the rest worked out from today's endpoints."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID

from relay.catalog.subscriptions import matches
from relay.db import Conn
from relay.delivery.deliveries import oldest_of
from relay.delivery.gates import Gate, standings
from relay.intake import events
from relay.intake.events import Event


class FanoutReason(StrEnum):
    """Why an endpoint got a delivery of an event, or none."""

    MATCHED = "matched"
    TYPE_NOT_SUBSCRIBED = "type_not_subscribed"
    FILTERED_OUT = "filtered_out"
    ENDPOINT_DISABLED = "endpoint_disabled"
    CREATED_LATER = "created_later"
    NOT_FANNED_OUT_YET = "not_fanned_out_yet"


@dataclass(frozen=True, slots=True)
class FanoutDecision:
    """One endpoint's side of a fan-out; `recorded` is False for what was worked out just now."""

    endpoint_id: UUID
    why: FanoutReason
    delivery_id: UUID | None
    recorded: bool
    decided_at: datetime
    gate: Gate | None = None

    @property
    def matched(self) -> bool:
        """Tell whether the endpoint has a delivery of the event."""
        return self.why is FanoutReason.MATCHED


@dataclass(frozen=True, slots=True)
class _Other:
    """An endpoint without a delivery of the event, as it is now."""

    id: UUID
    event_types: list[str]
    disabled: bool
    created_at: datetime


async def explain(
    conn: Conn, tenant_id: UUID, event_id: UUID, *, endpoint_id: UUID | None = None, first: int = 100
) -> list[FanoutDecision]:
    """Return up to `first` decisions about an event, matches first; about one endpoint only, if given.

    Nothing for an event the tenant does not have.
    """
    event = await events.find(conn, tenant_id, event_id)
    if event is None:
        return []
    decisions = await _matched(conn, event, endpoint_id=endpoint_id, first=first)
    if len(decisions) < first and event.endpoint_id is None:
        fanned_out_at = await _fanned_out_at(conn, event_id)
        others = await _others(conn, event, endpoint_id=endpoint_id, first=first - len(decisions))
        decisions += [_decision(one, event, fanned_out_at=fanned_out_at) for one in others]
    found = await standings(conn, [one.endpoint_id for one in decisions])
    return [replace(one, gate=found[one.endpoint_id].gate) if one.endpoint_id in found else one for one in decisions]


def _decision(endpoint: _Other, event: Event, *, fanned_out_at: datetime | None) -> FanoutDecision:
    why = _why_not(endpoint, event.type, fanned_out_at=fanned_out_at)
    return FanoutDecision(endpoint.id, why, delivery_id=None, recorded=False, decided_at=datetime.now(UTC))


def _why_not(endpoint: _Other, event_type: str | None, *, fanned_out_at: datetime | None) -> FanoutReason:
    """What kept the event from an endpoint; one that fits by now was changed since, and did not fit then."""
    if fanned_out_at is not None and endpoint.created_at > fanned_out_at:
        return FanoutReason.CREATED_LATER
    if endpoint.disabled:
        return FanoutReason.ENDPOINT_DISABLED
    fits = event_type is not None and any(matches(pattern, event_type) for pattern in endpoint.event_types)
    return FanoutReason.NOT_FANNED_OUT_YET if fits and fanned_out_at is None else FanoutReason.TYPE_NOT_SUBSCRIBED


async def _matched(conn: Conn, event: Event, *, endpoint_id: UUID | None, first: int) -> list[FanoutDecision]:
    """The newest delivery of the event for each endpoint."""
    rows = await conn.execute(
        """SELECT endpoint_id, id, created_at FROM (
               SELECT DISTINCT ON (x.endpoint_id) x.endpoint_id, x.id, x.created_at FROM (
                   SELECT endpoint_id, id, created_at FROM live WHERE event_id = %(event)s UNION ALL
                   SELECT endpoint_id, id, created_at FROM history WHERE event_id = %(event)s AND id >= %(oldest)s) x
               WHERE %(endpoint)s::uuid IS NULL OR x.endpoint_id = %(endpoint)s
               ORDER BY x.endpoint_id, x.id DESC) d
           ORDER BY id DESC LIMIT %(first)s""",
        {"event": event.id, "oldest": oldest_of([event.id]), "endpoint": endpoint_id, "first": first},
    )
    return [
        FanoutDecision(row[0], FanoutReason.MATCHED, delivery_id=row[1], recorded=True, decided_at=row[2])
        async for row in rows
    ]


async def _others(conn: Conn, event: Event, *, endpoint_id: UUID | None, first: int) -> list[_Other]:
    rows = await conn.execute(
        """SELECT e.id, e.event_types, e.status = 'disabled', e.created_at FROM endpoints e
           WHERE e.tenant_id = %(tenant)s AND e.kind = 'subscribed' AND e.deleted_at IS NULL
             AND (%(endpoint)s::uuid IS NULL OR e.id = %(endpoint)s)
             AND e.id NOT IN (
                 SELECT endpoint_id FROM live WHERE event_id = %(event)s UNION ALL
                 SELECT endpoint_id FROM history WHERE event_id = %(event)s AND id >= %(oldest)s)
           ORDER BY e.id DESC LIMIT %(first)s""",
        {
            "tenant": event.tenant_id,
            "event": event.id,
            "oldest": oldest_of([event.id]),
            "endpoint": endpoint_id,
            "first": first,
        },
    )
    return [_Other(*row) async for row in rows]


async def _fanned_out_at(conn: Conn, event_id: UUID) -> datetime | None:
    rows = await conn.execute("SELECT at FROM fanouts WHERE event_id = %s AND NOT cancelled", (event_id,))
    row = await rows.fetchone()
    return row[0] if row else None
