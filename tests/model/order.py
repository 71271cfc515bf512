"""FIFO lanes: one delivery at a time, by its place. relay/delivery/take.py (take_heads), record.py and fifo_lanes.py."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

from tests.model.intake import ring
from tests.model.postgres import Deadlock, Lost, Steps, Transaction
from tests.model.rows import BLOCKING, Claim, Delivery, Lane, LaneId, gate_of
from tests.model.world import Process, World


def head_of(tx: Transaction, lane: LaneId) -> tuple[int, Delivery] | None:
    """The lane's delivery with the smallest seq, whatever its state."""
    rows: list[tuple[int, Delivery]] = [(id, row) for id, row in tx.scan("live") if row.lane == lane]
    return min(rows, key=lambda one: one[1].seq or 0, default=None)


def next_in(world: World, tx: Transaction, lane: LaneId) -> tuple[int, Delivery] | None:
    """The delivery to take, if any: the head, when it is due."""
    head = head_of(tx, lane)
    if not world.rules.head_in_any_state:
        due = [(row.seq, id, row) for id, row in tx.scan("live") if row.lane == lane and is_due(world, row)]
        head = min(due)[1:] if due else None
    return head if head is not None and is_due(world, head[1]) else None


def is_due(world: World, row: Delivery) -> bool:
    """Whether it waits, and may be sent now."""
    return row.fence is None and row.due_at is not None and row.due_at <= world.now


def move_head(world: World, tx: Transaction, claim: Claim, *, dead: bool) -> Steps:
    """The lane has another head now: ring it, or let a dead one block it; in the transaction of the record."""
    if world.rules.record_rings_lane:
        yield from ring(tx, world, claim.lane, at=world.now)
    died = dead and tx.get("history", claim.id) == "dead"
    if died and claim.lane[0] == BLOCKING and world.rules.record_blocks_lane:
        yield from tx.lock(("lanes", claim.lane))
        tx.put("lanes", claim.lane, replace(tx.get("lanes", claim.lane), blocked_by=claim.id))


def count_late(tx: Transaction, claim: Claim) -> Steps:
    """The answer of a head that was taken from its holder counts as an attempt, and changes nothing else."""
    row: Delivery | None = tx.get("live", claim.id)
    if row is not None and row.released_fence == claim.fence:
        yield from tx.lock(("live", claim.id))
        row = tx.get("live", claim.id)
        if row is not None and row.released_fence == claim.fence:
            tx.put("live", claim.id, replace(row, attempts=row.attempts + 1, released_fence=None))


def release_lane(world: World, web: Process, lane: LaneId) -> Steps:
    """releaseFIFOLock: end the lane's lease, put its head back, and skip a dead one."""
    while True:
        try:
            with world.postgres.begin(web) as tx:
                if (yield from _release(world, tx, lane)):
                    yield world.moment()
                    tx.commit()
                    world.say(f"releases {lane}")
            return
        except Deadlock:
            continue
        except Lost:
            yield 0.5


def _release(world: World, tx: Transaction, lane: LaneId) -> Generator[float, None, bool]:
    yield from tx.lock(("lanes", gate_of(lane)))
    if tx.get("lanes", lane) is None:
        return False
    yield from tx.lock(("lanes", lane))
    row: Lane = tx.get("lanes", lane)
    yield world.moment()
    put_back = _put_head_back(world, tx, lane)
    if not put_back and row.fence is None and row.blocked_by is None:
        return False
    tx.put("lanes", lane, replace(row.let_go(world.now), blocked_by=None))
    return True


def _put_head_back(world: World, tx: Transaction, lane: LaneId) -> bool:
    """One whose outcome is being recorded at this moment is left to that."""
    head = head_of(tx, lane)
    if head is None or head[1].fence is None or not tx.try_lock(("live", head[0])):
        return False
    id, row = head
    tx.put("live", id, replace(row.waiting(world.now), released_fence=row.fence))
    return True
