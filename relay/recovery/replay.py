"""Replay: a final delivery gets a successor, and of two who ask for it at once only one makes it.

The right to repeat a dead one is its dead letter, which is taken; that to repeat a cancelled one is its row, which is
locked while its successors are looked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from relay.catalog import endpoints
from relay.db import Conn
from relay.delivery.deliveries import oldest_of
from relay.delivery.live import tier_of
from relay.errors import Conflict
from relay.ids import Uuid7
from relay.intake import events
from relay.recovery import repeat
from relay.recovery.dead_letters import settle, unblock
from relay.recovery.repeat import Repeat
from relay.recovery.targets import Refusal, Target, erased, read_payloads, targets


@dataclass(frozen=True, slots=True)
class Final:
    """A delivery of the history; `state` is delivered, dead or cancelled."""

    id: UUID
    event_id: UUID
    endpoint_id: UUID
    state: str
    tier: int
    lane: str
    seq: int | None


async def replay(
    conn: Conn, tenant_id: UUID, finals: Sequence[Final], *, ids: Uuid7, job_id: UUID | None = None
) -> dict[UUID, UUID | Refusal]:
    """Repeat the client's final deliveries, in the order given; return each one's successor, or why it has none.

    What is dead or cancelled is repeated once; what was delivered, whenever somebody asks. Repeated dead ones are settled.
    """
    empty = await erased(conn, (one.event_id for one in finals))
    found = await targets(conn, tenant_id, (one.endpoint_id for one in finals))
    results: dict[UUID, UUID | Refusal] = {one.id: Refusal.SETTLED for one in finals}
    ready: list[tuple[Final, Target]] = []
    for one in finals:
        target = Refusal.ERASED if one.event_id in empty else found[one.endpoint_id]
        if isinstance(target, Target):
            ready.append((one, target))
        else:
            results[one.id] = target
    ours = await _take(conn, tenant_id, [one for one, _ in ready])
    ready = [(one, target) for one, target in ready if one.id in ours]
    payloads = await read_payloads(conn, (one.event_id for one, target in ready if target.needs_payload(one.lane)))
    repeats = [_repeat(one, target, id=ids(), payload=payloads.get(one.event_id, b"")) for one, target in ready]
    await repeat.insert(conn, tenant_id, repeats, job_id=job_id)
    await _leave_lanes(conn, tenant_id, repeats)
    results.update({one.replay_of: one.id for one in repeats if one.replay_of is not None})
    return results


def _repeat(final: Final, target: Target, *, id: UUID, payload: bytes) -> Repeat:
    tier, lane = target.place(tier=final.tier, former=final.lane, payload=payload)
    return Repeat(id, final.event_id, final.endpoint_id, tier, lane, replay_of=final.id, replay_seq=final.seq)


async def _take(conn: Conn, tenant_id: UUID, finals: Sequence[Final]) -> set[UUID]:
    """Those of them that the caller, and until its commit nobody else, may repeat."""
    by_state: dict[str, list[UUID]] = {"delivered": [], "dead": [], "cancelled": []}
    for one in finals:
        by_state[one.state].append(one.id)
    ours = set(by_state["delivered"])
    if by_state["dead"]:
        ours |= await settle(conn, tenant_id, by_state["dead"])
    if by_state["cancelled"]:
        ours |= await _lock_unrepeated(conn, by_state["cancelled"])
    return ours


async def _lock_unrepeated(conn: Conn, ids: Sequence[UUID]) -> set[UUID]:
    await conn.execute("SELECT FROM history WHERE id = ANY(%s::uuid[]) ORDER BY id FOR UPDATE", (list(ids),))
    rows = await conn.execute(
        """SELECT id FROM unnest(%(ids)s::uuid[]) AS u (id)
           EXCEPT SELECT replay_of FROM live WHERE replay_of = ANY(%(ids)s::uuid[])
           EXCEPT SELECT replay_of FROM history WHERE replay_of = ANY(%(ids)s::uuid[]) AND id >= %(oldest)s""",
        {"ids": list(ids), "oldest": oldest_of(ids)},
    )
    return {row[0] async for row in rows}


async def _leave_lanes(conn: Conn, tenant_id: UUID, repeats: Sequence[Repeat]) -> None:
    """Unblock what dead heads have left behind whose successors wait elsewhere: their endpoint gave up its order."""
    gone = [one.replay_of for one in repeats if one.replay_of and one.replay_seq is not None]
    if gone:
        await unblock(conn, tenant_id, gone)


async def finals_of_events(
    conn: Conn, tenant_id: UUID, event_ids: Sequence[UUID], *, states: Sequence[str], endpoint_id: UUID | None = None
) -> list[Final]:
    """Return the deliveries of these events (to one endpoint, if given) that ended in one of these states, oldest first."""
    if not event_ids:
        return []
    rows = await conn.execute(
        """SELECT id, event_id, endpoint_id, state, tier, lane, seq FROM history
           WHERE tenant_id = %s AND event_id = ANY(%s::uuid[]) AND id >= %s AND state = ANY(%s::text[])
             AND (%s::uuid IS NULL OR endpoint_id = %s) ORDER BY id""",
        (tenant_id, list(event_ids), oldest_of(event_ids), list(states), endpoint_id, endpoint_id),
    )
    return [Final(*row) async for row in rows]


async def replay_event(conn: Conn, tenant_id: UUID, event_id: UUID, *, ids: Uuid7) -> None:
    """Repeat the dead and cancelled deliveries of an event; one that ends at this moment may be left as it is.

    Raises NotFound, and Conflict when nothing can be repeated.
    """
    if (await events.get(conn, tenant_id, event_id)).payload is None:
        raise Conflict(Refusal.ERASED.value)
    finals = await finals_of_events(conn, tenant_id, [event_id], states=["dead", "cancelled"])
    results = (await replay(conn, tenant_id, finals, ids=ids)).values()
    if any(isinstance(result, UUID) for result in results):
        return
    for refusal in (Refusal.ERASED, Refusal.DISABLED, Refusal.DELETED):
        if refusal in results:
            raise Conflict(refusal.value)
    raise Conflict("The event has no dead or cancelled delivery that was not replayed before.")


async def replay_to(conn: Conn, tenant_id: UUID, event_id: UUID, endpoint_id: UUID, *, ids: Uuid7) -> UUID:
    """Make a new delivery of an event to one endpoint, whatever came before; return its id.

    It repeats the newest delivery of the event there, if there is one. Raises NotFound for the event or the endpoint, and
    Conflict when the endpoint is disabled, or somebody settles at this moment what is dead.
    """
    event = await events.get(conn, tenant_id, event_id)
    if event.payload is None or await erased(conn, [event_id]):
        raise Conflict(Refusal.ERASED.value)
    await endpoints.get(conn, tenant_id, endpoint_id)
    target = (await targets(conn, tenant_id, [endpoint_id]))[endpoint_id]
    if isinstance(target, Refusal):
        raise Conflict(target.value)
    newest = await _newest(conn, event_id, endpoint_id)
    if newest is not None and newest.dead and not await settle(conn, tenant_id, [newest.id]):
        raise Conflict(Refusal.SETTLED.value)
    tier, lane = target.place(
        tier=tier_of(event.priority), former=newest.lane if newest else None, payload=event.payload
    )
    old_id, old_seq = (newest.id, newest.seq) if newest else (None, None)
    new = Repeat(ids(), event_id, endpoint_id, tier, lane, replay_of=old_id, replay_seq=old_seq)
    await repeat.insert(conn, tenant_id, [new])
    await _leave_lanes(conn, tenant_id, [new])
    return new.id


@dataclass(frozen=True, slots=True)
class _Newest:
    """The newest delivery of an event to an endpoint; `dead`: and settled by nobody."""

    id: UUID
    lane: str
    seq: int | None
    dead: bool


async def _newest(conn: Conn, event_id: UUID, endpoint_id: UUID) -> _Newest | None:
    rows = await conn.execute(
        """SELECT id, lane, seq, EXISTS (SELECT FROM dead_letters x WHERE x.id = d.id) FROM (
               SELECT id, lane, seq FROM live WHERE event_id = %(event)s AND endpoint_id = %(endpoint)s
               UNION ALL
               SELECT id, lane, seq FROM history
               WHERE event_id = %(event)s AND endpoint_id = %(endpoint)s AND id >= %(oldest)s) d
           ORDER BY id DESC LIMIT 1""",
        {"event": event_id, "endpoint": endpoint_id, "oldest": oldest_of([event_id])},
    )
    row = await rows.fetchone()
    return _Newest(*row) if row else None
