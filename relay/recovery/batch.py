"""Retrying by event, up to 1 000 at once: each event is retried or refused on its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import islice
from uuid import UUID

from relay.db import Conn, Database
from relay.delivery.deliveries import DeliveryStatus
from relay.errors import Conflict, Invalid, NotFound, RelayError
from relay.ids import Uuid7
from relay.recovery.replay import finals_of_events, replay
from relay.recovery.retry import make_due
from relay.recovery.targets import Refusal

MAX_EVENTS = 1_000
DEFAULT_LIMIT = 100
#: What retrying an event means when nobody says a status.
USUAL = frozenset({DeliveryStatus.FAILED, DeliveryStatus.DEAD})
_RETRIED = USUAL | {DeliveryStatus.CANCELLED}
#: An event has several deliveries; so many are looked at for each event that is wanted.
_LOOK = 20

Results = dict[UUID, RelayError | None]


def check_ids(ids: Sequence[object]) -> None:
    """Raise Invalid unless there are 1 to 1 000."""
    if not 1 <= len(ids) <= MAX_EVENTS:
        raise Invalid(f"ids must hold 1 to {MAX_EVENTS:,}".replace(",", " ") + " ids.", field="ids")


def check_limit(limit: int | None) -> int:
    """Return the limit, 100 when none is given; raise Invalid outside 1..1 000."""
    wanted = DEFAULT_LIMIT if limit is None else limit
    if not 1 <= wanted <= MAX_EVENTS:
        raise Invalid(f"limit must be between 1 and {MAX_EVENTS:,}".replace(",", " ") + ".", field="limit")
    return wanted


def check_status(status: DeliveryStatus) -> frozenset[DeliveryStatus]:
    """Return what is to be retried; raise Invalid for a status in which there is nothing to retry."""
    if status not in _RETRIED:
        raise Invalid("status must be FAILED, DEAD or CANCELLED.", field="status")
    return frozenset({status})


async def _unheard(_conn: Conn, _events: Sequence[UUID]) -> None:
    pass


async def retry_events(
    db: Database,
    tenant_id: UUID,
    event_ids: Iterable[UUID],
    *,
    ids: Uuid7,
    statuses: frozenset[DeliveryStatus] = USUAL,
    endpoint_id: UUID | None = None,
    started: Callable[[Conn, Sequence[UUID]], Awaitable[None]] = _unheard,
) -> Results:
    """Retry these events' deliveries (to one endpoint, if given) in these statuses; return each event's error, or None.

    Two transactions: what failed is due now, then what is dead or cancelled is replayed. `started` is called in the first
    with the events that there are, if any.
    """
    wanted = list(dict.fromkeys(event_ids))
    async with db.transaction() as conn:
        known = await _known(conn, tenant_id, wanted)
        if known:
            await started(conn, [id for id in wanted if id in known])
        done = (
            await _make_failed_due(conn, tenant_id, known, endpoint_id) if DeliveryStatus.FAILED in statuses else set()
        )
    states = [status.value for status in statuses - {DeliveryStatus.FAILED}]
    refused: dict[UUID, Refusal] = {}
    async with db.transaction() as conn:
        finals = await finals_of_events(conn, tenant_id, list(known), states=states, endpoint_id=endpoint_id)
        results = await replay(conn, tenant_id, finals, ids=ids)
    for final in finals:
        result = results[final.id]
        if isinstance(result, UUID):
            done.add(final.event_id)
        elif result is not Refusal.SETTLED:
            refused[final.event_id] = result
    return {id: None if id in done else _error(refused.get(id), known=id in known) for id in wanted}


def _error(refusal: Refusal | None, *, known: bool) -> RelayError:
    if not known:
        return NotFound("There is no event with this id.")
    return Conflict(refusal.value if refusal else "The event has no delivery to retry.")


async def _known(conn: Conn, tenant_id: UUID, event_ids: Sequence[UUID]) -> set[UUID]:
    rows = await conn.execute(
        "SELECT id FROM events WHERE tenant_id = %s AND id = ANY(%s::uuid[])", (tenant_id, list(event_ids))
    )
    return {row[0] async for row in rows}


async def _make_failed_due(
    conn: Conn, tenant_id: UUID, event_ids: Iterable[UUID], endpoint_id: UUID | None
) -> set[UUID]:
    """Return the events with deliveries that failed: those that wait are due now, the others were handed out already."""
    rows = await conn.execute(
        """SELECT id, event_id FROM live
           WHERE tenant_id = %s AND event_id = ANY(%s::uuid[]) AND owner IS NULL AND attempts > 0
             AND (%s::uuid IS NULL OR endpoint_id = %s)""",
        (tenant_id, list(event_ids), endpoint_id, endpoint_id),
    )
    failed = {row[0]: row[1] async for row in rows}
    await make_due(conn, tenant_id, list(failed))
    return set(failed.values())


async def oldest(
    conn: Conn,
    tenant_id: UUID,
    statuses: frozenset[DeliveryStatus],
    *,
    limit: int,
    endpoint_id: UUID | None = None,
) -> list[UUID]:
    """Return up to `limit` events with deliveries (to one endpoint, if given) to retry, those of the oldest first.

    Leaves out what would be refused, or is due already, so that asking again and again comes to an end.
    """
    parameters = {"tenant": tenant_id, "endpoint": endpoint_id, "look": _LOOK * limit}
    found: list[tuple[UUID, UUID]] = []
    if DeliveryStatus.FAILED in statuses:
        rows = await conn.execute(
            """SELECT id, event_id FROM live
               WHERE tenant_id = %(tenant)s AND fence IS NULL AND attempts > 0 AND due_at > now()
                 AND (%(endpoint)s::uuid IS NULL OR endpoint_id = %(endpoint)s) ORDER BY id LIMIT %(look)s""",
            parameters,
        )
        found += [(row[0], row[1]) async for row in rows]
    if DeliveryStatus.DEAD in statuses:
        rows = await conn.execute(
            """SELECT d.id, d.event_id FROM dead_letters d JOIN endpoints e ON e.id = d.endpoint_id
               WHERE d.tenant_id = %(tenant)s AND e.status = 'active' AND e.deleted_at IS NULL
                 AND (%(endpoint)s::uuid IS NULL OR d.endpoint_id = %(endpoint)s) ORDER BY d.id LIMIT %(look)s""",
            parameters,
        )
        found += [(row[0], row[1]) async for row in rows]
    if DeliveryStatus.CANCELLED in statuses:
        found += await _oldest_cancelled(conn, parameters)
    return list(islice(dict.fromkeys(event_id for _, event_id in sorted(found)), limit))


async def _oldest_cancelled(conn: Conn, parameters: Mapping[str, object]) -> list[tuple[UUID, UUID]]:
    rows = await conn.execute(
        """SELECT h.id, h.event_id FROM history h JOIN endpoints e ON e.id = h.endpoint_id
           WHERE h.tenant_id = %(tenant)s AND h.state <> 'delivered' AND h.state = 'cancelled'
             AND e.status = 'active' AND e.deleted_at IS NULL
             AND (%(endpoint)s::uuid IS NULL OR h.endpoint_id = %(endpoint)s)
             AND NOT EXISTS (SELECT FROM live r WHERE r.replay_of = h.id)
             AND NOT EXISTS (SELECT FROM history r WHERE r.replay_of = h.id)
             AND NOT EXISTS (SELECT FROM events x WHERE x.id = h.event_id AND x.payload IS NULL)
           ORDER BY h.id LIMIT %(look)s""",
        parameters,
    )
    return [(row[0], row[1]) async for row in rows]
