"""Who got an event, who did not, and why: matches as recorded, the rest worked out from today's endpoints.

`relay.insight.foresee` does the same for an event that nobody has sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID

from relay.catalog.filters import Failing, Seen, stored_filter
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
    """One endpoint's side of a fan-out; `recorded` is False for what was worked out just now.

    `changed_since`: worked out, and the endpoint was changed after the fan-out, when it may have been another. `failing`
    says what in its filter kept the event out, where that can be told.
    """

    endpoint_id: UUID
    why: FanoutReason
    delivery_id: UUID | None
    recorded: bool
    decided_at: datetime
    gate: Gate | None = None
    changed_since: bool = False
    failing: Failing | None = None

    @property
    def matched(self) -> bool:
        """Tell whether the endpoint has a delivery of the event."""
        return self.why is FanoutReason.MATCHED


@dataclass(frozen=True, slots=True)
class Candidate:
    """An endpoint as it is now; `filter` is the JSON text of one."""

    id: UUID
    event_types: list[str]
    disabled: bool
    created_at: datetime
    updated_at: datetime
    filter: str | None


@dataclass(frozen=True, slots=True)
class _Facts:
    """An event as filters see it (None: its payload was erased) and as it may be shown, and when it was fanned out."""

    type: str | None
    seen: Seen | None
    shown_as: Seen | None
    fanned_out_at: datetime | None


async def explain(
    conn: Conn,
    tenant_id: UUID,
    event_id: UUID,
    *,
    endpoint_id: UUID | None = None,
    first: int = 100,
    shown: Callable[[Event], bytes | None] = lambda event: event.payload,
) -> list[FanoutDecision]:
    """Return up to `first` decisions about an event, matches first; about one endpoint only, if given.

    Nothing for an event the tenant does not have. `shown` gives its payload as people may see it, None for not at all.
    """
    event = await events.find(conn, tenant_id, event_id)
    if event is None:
        return []
    decisions = await _matched(conn, event, endpoint_id=endpoint_id, first=first)
    if len(decisions) < first and event.endpoint_id is None:
        facts = _facts(event, shown(event), fanned_out_at=await _fanned_out_at(conn, event_id))
        others = await _others(conn, event, endpoint_id=endpoint_id, first=first - len(decisions))
        decisions += [_decision(one, facts) for one in others]
    return await with_gates(conn, decisions)


async def with_gates(conn: Conn, decisions: Iterable[FanoutDecision]) -> list[FanoutDecision]:
    """Return the decisions with what holds their endpoints back now."""
    decisions = list(decisions)
    found = await standings(conn, [one.endpoint_id for one in decisions])
    return [replace(one, gate=found[one.endpoint_id].gate) if one.endpoint_id in found else one for one in decisions]


def refusal(filter: str | None, seen: Seen, *, shown_as: Seen | None = None) -> Failing | None:
    """Return what in an endpoint's filter keeps an event out; one that cannot be read lets nothing through."""
    return None if filter is None else stored_filter(filter).failing(seen, shown_as=shown_as)


def _facts(event: Event, shown: bytes | None, *, fanned_out_at: datetime | None) -> _Facts:
    seen = None if event.payload is None else Seen(event.payload, event.headers, event.type)
    return _Facts(event.type, seen, Seen(shown or b"", event.headers, event.type), fanned_out_at)


def _decision(endpoint: Candidate, facts: _Facts) -> FanoutDecision:
    why, failing = _why_not(endpoint, facts)
    at = facts.fanned_out_at
    changed = at is not None and why is not FanoutReason.CREATED_LATER and endpoint.updated_at > at
    return FanoutDecision(
        endpoint.id,
        why,
        delivery_id=None,
        recorded=False,
        decided_at=datetime.now(UTC),
        changed_since=changed,
        failing=failing,
    )


def _why_not(endpoint: Candidate, facts: _Facts) -> tuple[FanoutReason, Failing | None]:
    """What kept the event from an endpoint; one that fits by now was changed since, and did not fit then."""
    if facts.fanned_out_at is not None and endpoint.created_at > facts.fanned_out_at:
        return FanoutReason.CREATED_LATER, None
    if endpoint.disabled:
        return FanoutReason.ENDPOINT_DISABLED, None
    if facts.type is None or not any(matches(pattern, facts.type) for pattern in endpoint.event_types):
        return FanoutReason.TYPE_NOT_SUBSCRIBED, None
    failing = refusal(endpoint.filter, facts.seen, shown_as=facts.shown_as) if facts.seen is not None else None
    if failing is not None:
        return FanoutReason.FILTERED_OUT, failing
    if facts.fanned_out_at is None:
        return FanoutReason.NOT_FANNED_OUT_YET, None
    return FanoutReason.TYPE_NOT_SUBSCRIBED if endpoint.filter is None else FanoutReason.FILTERED_OUT, None


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


async def _others(conn: Conn, event: Event, *, endpoint_id: UUID | None, first: int) -> list[Candidate]:
    rows = await conn.execute(
        """SELECT e.id, e.event_types, e.status = 'disabled', e.created_at, e.updated_at, e.filter::text FROM endpoints e
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
    return [Candidate(*row) async for row in rows]


async def _fanned_out_at(conn: Conn, event_id: UUID) -> datetime | None:
    rows = await conn.execute("SELECT at FROM fanouts WHERE event_id = %s AND NOT cancelled", (event_id,))
    row = await rows.fetchone()
    return row[0] if row else None
