"""What web processes and fan-out do: relay/intake/outbox.py, relay/delivery/fanout.py and disabling.py."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

from tests.model.postgres import Deadlock, Lost, Steps, Transaction
from tests.model.rows import Delivery, Lane, LaneId, gate_of, is_ordered
from tests.model.world import Process, World

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
    """Cancel what waits for an endpoint, where nobody owns it; FIFO lanes are locked first, for their heads may go."""
    try:
        with world.postgres.begin(web) as tx:
            done: list[int] = []
            ordered = [lane for lane, _ in tx.scan("lanes") if lane[0] == endpoint and is_ordered(lane)]
            yield from tx.lock(*(("lanes", lane) for lane in ordered))
            for id, row in tx.scan("live"):
                if row.lane[0] == endpoint and row.owner is None and tx.try_lock(("live", id)):
                    newest: Delivery | None = tx.get("live", id)
                    if newest is not None and newest.owner is None:
                        tx.put("live", id, None)
                        tx.put("history", id, "cancelled")
                        done.append(id)
            yield world.blink()
            for lane in ordered:
                yield from ring(tx, world, lane, at=world.now)
            tx.commit()
    except (Lost, Deadlock):
        return
    world.ghost.cancelled.update(done)
    world.say(f"cancels {done}")


@dataclass(frozen=True, slots=True)
class _Batch:
    """What one transaction fanned out: the outbox numbers, what goes out at once, and its snapshot's xmin and xmax."""

    drained: list[int]
    dispatched: list[tuple[int, int]]
    snapshot: tuple[int, int]


def fan_out(world: World, process: Process) -> Steps:
    """Drain the shard batch by batch, and look once more after the last commit."""
    while True:
        with world.postgres.begin(process) as tx:
            if not tx.try_lock(("shard", 0)):
                return
            yield world.moment()
            batch = yield from _drain(world, process, tx)
            yield world.moment()
            tx.commit()
        _learn(world, process, batch)
        yield world.moment()
        if batch.dispatched:
            world.queue.append(("deliver", tuple(batch.dispatched)))
        if not batch.drained and not world.postgres.table("outbox"):
            return


def _drain(world: World, process: Process, tx: Transaction) -> Generator[float, None, _Batch]:
    entries = [(n, event) for n, event in tx.scan("outbox") if n >= process.hint][:DRAINED_AT_ONCE]
    snapshot = tx.snapshot()
    yield world.moment()
    lanes: dict[LaneId, Lane] = dict(tx.scan("lanes"))
    out: list[tuple[int, int]] = []
    waiting: dict[LaneId, list[int]] = {}
    for n, event in entries:
        tx.put("outbox", n, None)
        for id, lane in event.deliveries:
            if is_ordered(lane) or _is_held_back(world, lanes, lane):
                waiting.setdefault(lane, []).append(id)
            else:
                out.append((id, world.fence()))
                tx.put("live", id, Delivery(lane, fence=out[-1][1], sent_at=world.now))
    for lane in sorted(waiting):
        yield from _line_up(tx, world, lane, waiting[lane])
    return _Batch([n for n, _ in entries], out, snapshot)


def _is_held_back(world: World, lanes: dict[LaneId, Lane], lane: LaneId) -> bool:
    row, gate = lanes.get(lane, Lane()), lanes[gate_of(lane)]
    return gate.paused or gate.open_until is not None or row.fence is not None or row.due(world.now)


def _line_up(tx: Transaction, world: World, lane: LaneId, ids: Sequence[int]) -> Steps:
    """Let deliveries wait; those of a FIFO lane get their places from it, under its lock."""
    yield from ring(tx, world, lane, at=world.now)
    row: Lane = tx.get("lanes", lane) or Lane()
    if is_ordered(lane):
        here = [one.seq for _, one in tx.scan("live") if one.lane == lane]
        first = row.next_seq if world.rules.lane_counts_places else max(here, default=0) + 1
        tx.put("lanes", lane, replace(row, next_seq=first + len(ids)))
        for place, id in enumerate(ids, first):
            tx.put("live", id, Delivery(lane, due_at=world.now, seq=place))
    else:
        for id in ids:
            tx.put("live", id, Delivery(lane, due_at=world.now))


def _learn(world: World, process: Process, batch: _Batch) -> None:
    xmin, xmax = batch.snapshot
    newest = max(batch.drained, default=0)
    if not world.rules.patient_hint:
        process.hint = max(process.hint, newest + 1)
        return
    if process.drained and xmin >= process.drained[0] and len(batch.drained) < DRAINED_AT_ONCE:
        process.hint, process.drained = process.drained[1] + 1, None
    if newest and process.drained is None:
        process.drained = (xmax, newest)


def ring(tx: Transaction, world: World, lane: LaneId, *, at: float) -> Steps:
    """Say in this transaction that a lane has work at that time."""
    if world.rules.ring:
        yield from tx.lock(("lanes", lane))
        tx.put("lanes", lane, (tx.get("lanes", lane) or Lane()).rung(at))
