"""Who got an event and who did not, and why. Matches are as recorded; the others are worked out from the endpoints now."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID

from relay.catalog.subscriptions import matches
from relay.db import Conn
from relay.delivery.deliveries import oldest_of
from relay.delivery.outcomes import Reason
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
class Gate:
    """Why an endpoint gets nothing now, and until when (None: until somebody acts)."""

    reason: Reason
    until: datetime | None


@dataclass(frozen=True, slots=True)
class FanoutDecision:
    """One endpoint's side of a fan-out; `recorded` is False for what was worked out just now."""

    endpoint_id: UUID
    why: FanoutReason
    delivery_id: UUID | None
    gate: Gate | None
    recorded: bool
    decided_at: datetime

    @property
    def matched(self) -> bool:
        """Tell whether the endpoint has a delivery of the event."""
        return self.why is FanoutReason.MATCHED


@dataclass(frozen=True, slots=True)
class _Candidate:
    """An endpoint without a delivery of the event, as it is now."""

    id: UUID
    event_types: list[str]
    disabled: bool
    created_at: datetime
    gate: Gate | None


async def explain(
    conn: Conn, tenant_id: UUID, event_id: UUID, *, endpoint_id: UUID | None = None, first: int = 100
) -> list[FanoutDecision]:
    """Return up to `first` decisions about an event, matches first, or about one endpoint; none for an unknown event."""
    event = await events.find(conn, tenant_id, event_id)
    if event is None:
        return []
    decisions = await _matched(conn, event, endpoint_id=endpoint_id, first=first)
    if len(decisions) == first or event.endpoint_id is not None:
        return decisions
    now = datetime.now(UTC)
    fanned_out_at = await _fanned_out_at(conn, event_id)
    others = await _without_delivery(conn, event, endpoint_id=endpoint_id, first=first - len(decisions))
    return decisions + [
        FanoutDecision(
            endpoint_id=one.id,
            why=_why_not(one, event.type, fanned_out_at=fanned_out_at),
            delivery_id=None,
            gate=one.gate,
            recorded=False,
            decided_at=now,
        )
        for one in others
    ]


def _why_not(endpoint: _Candidate, event_type: str | None, *, fanned_out_at: datetime | None) -> FanoutReason:
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
        """SELECT d.endpoint_id, d.id, d.created_at, g.reason, g.until FROM (
               SELECT DISTINCT ON (x.endpoint_id) x.endpoint_id, x.id, x.created_at FROM (
                   SELECT endpoint_id, id, created_at FROM live WHERE event_id = %(event)s UNION ALL
                   SELECT endpoint_id, id, created_at FROM history WHERE event_id = %(event)s AND id >= %(oldest)s) x
               WHERE %(endpoint)s::uuid IS NULL OR x.endpoint_id = %(endpoint)s
               ORDER BY x.endpoint_id, x.id DESC) d
           LEFT JOIN LATERAL (
               SELECT CASE WHEN paused THEN 'paused' ELSE gate_reason END AS reason,
                      CASE WHEN NOT paused THEN gate_until END AS until
               FROM lanes WHERE endpoint_id = d.endpoint_id AND key = ''
                   AND (paused OR gate_reason = 'circuit_open' OR gate_until > now())) g ON true
           ORDER BY d.id DESC LIMIT %(first)s""",
        {"event": event.id, "oldest": oldest_of([event.id]), "endpoint": endpoint_id, "first": first},
    )
    return [
        FanoutDecision(row[0], FanoutReason.MATCHED, row[1], _gate(row[3], row[4]), recorded=True, decided_at=row[2])
        async for row in rows
    ]


async def _without_delivery(conn: Conn, event: Event, *, endpoint_id: UUID | None, first: int) -> list[_Candidate]:
    rows = await conn.execute(
        """SELECT e.id, e.event_types, e.status = 'disabled', e.created_at, g.reason, g.until FROM endpoints e
           LEFT JOIN LATERAL (
               SELECT CASE WHEN paused THEN 'paused' ELSE gate_reason END AS reason,
                      CASE WHEN NOT paused THEN gate_until END AS until
               FROM lanes WHERE endpoint_id = e.id AND key = ''
                   AND (paused OR gate_reason = 'circuit_open' OR gate_until > now())) g ON true
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
    return [_Candidate(row[0], row[1], row[2], row[3], _gate(row[4], row[5])) async for row in rows]


async def _fanned_out_at(conn: Conn, event_id: UUID) -> datetime | None:
    rows = await conn.execute("SELECT at FROM fanouts WHERE event_id = %s", (event_id,))
    row = await rows.fetchone()
    return row[0] if row else None


def _gate(reason: str | None, until: datetime | None) -> Gate | None:
    return None if reason is None else Gate(Reason(reason), until)
