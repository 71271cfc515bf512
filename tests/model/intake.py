"""What web processes and fan-out do: relay/intake/outbox.py, relay/delivery/fanout.py and live.cancel_waiting."""

from __future__ import annotations

from dataclasses import dataclass

from tests.model.postgres import Lost, Steps, Transaction
from tests.model.world import Delivery, Lane, LaneId, Process, World

DRAINED_AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Event:
    """A row of the outbox: the deliveries that its fan-out will make, by id."""

    deliveries: tuple[tuple[int, LaneId], ...]


def accept(world: World, web: Process, event: Event) -> Steps:
    """Store an event; it is accepted once the commit is answered."""
    try:
        with world.postgres.begin(web) as tx:
            n, world.postgres.next_n = world.postgres.next_n, world.postgres.next_n + 1
            tx.put("outbox", n, event)
            yield world.moment()
            tx.commit()
    except Lost:
        return
    world.ghost.accepted |= {id for id, _ in event.deliveries}
    world.say(f"accepts {[id for id, _ in event.deliveries]} as {n}")
    world.queue.append(("fan_out",))


def cancel_waiting(world: World, web: Process, endpoint: str) -> Steps:
    """Cancel what waits for an endpoint, where nobody owns it."""
    try:
        with world.postgres.begin(web) as tx:
            done: list[int] = []
            for id, row in tx.scan("live"):
                if row.lane[0] == endpoint and row.owner is None and tx.try_lock(("live", id)):
                    newest: Delivery | None = tx.get("live", id)
                    if newest is not None and newest.owner is None:
                        tx.put("live", id, None)
                        tx.put("history", id, "cancelled")
                        done.append(id)
            yield world.blink()
            tx.commit()
    except Lost:
        return
    world.ghost.cancelled.update(done)
    world.say(f"cancels {done}")


def fan_out(world: World, process: Process) -> Steps:
    """Drain the shard batch by batch, and look once more after the last commit."""
    while True:
        with world.postgres.begin(process) as tx:
            if not tx.try_lock(("shard", 0)):
                return
            yield world.moment()
            drained = yield from _drain(world, process, tx)
            yield world.moment()
            snapshot = drained[1]
            tx.commit()
        _learn(world, process, drained[0], snapshot)
        yield world.moment()
        if drained[2]:
            world.queue.append(("deliver", tuple(drained[2])))
        if not drained[0] and not world.postgres.table("outbox"):
            return


def _drain(world: World, process: Process, tx: Transaction):  # noqa: ANN202
    entries = [(n, event) for n, event in tx.scan("outbox") if n >= process.hint][:DRAINED_AT_ONCE]
    snapshot = tx.snapshot()
    yield world.moment()
    lanes: dict[LaneId, Lane] = dict(tx.scan("lanes"))
    out: list[tuple[int, int]] = []
    rung: set[LaneId] = set()
    for n, event in entries:
        tx.put("outbox", n, None)
        for id, lane in event.deliveries:
            idle = lane not in lanes or (lanes[lane].ready_at is None and lanes[lane].fence is None)
            if idle:
                out.append((id, world.fence()))
                tx.put("live", id, Delivery(lane, fence=out[-1][1], sent_at=world.now))
            else:
                tx.put("live", id, Delivery(lane, due_at=world.now))
                rung.add(lane)
    for lane in sorted(rung):
        yield from ring(tx, world, lane, at=world.now)
    return [n for n, _ in entries], snapshot, out


def _learn(world: World, process: Process, drained: list[int], snapshot: tuple[int, int]) -> None:
    xmin, xmax = snapshot
    if not world.rules.patient_hint:
        process.hint = max([process.hint, *(n + 1 for n in drained)])
        return
    if process.drained and xmin >= process.drained[0] and len(drained) < DRAINED_AT_ONCE:
        process.hint, process.drained = process.drained[1] + 1, None
    if drained and process.drained is None:
        process.drained = (xmax, max(drained))


def ring(tx: Transaction, world: World, lane: LaneId, *, at: float) -> Steps:
    """Say in this transaction that a lane has work at that time."""
    if world.rules.ring:
        yield from tx.lock(("lanes", lane))
        tx.put("lanes", lane, (tx.get("lanes", lane) or Lane()).rung(at))
