"""Holding lanes: relay/delivery/lanes.py, holder.py, taker.py and take.py."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tests.model import gates
from tests.model.gates import Asking
from tests.model.order import head_of, is_due, next_in
from tests.model.postgres import Commit, Deadlock, Lost, Steps, Transaction
from tests.model.rows import Claim, Delivery, Lane, LaneId, is_ordered
from tests.model.worker import Flight, post, record, ship
from tests.model.world import Process, World

HOLD_S = 5.0
WIDTH = 2


@dataclass(slots=True)
class Hold:
    """A lane while this process holds it, and how often it has asked for deliveries and got some."""

    world: World
    process: Process
    lane: LaneId
    fence: int
    until: float
    generation: int
    asked: int = 0
    taken: int = 0

    def goes_on(self) -> bool:
        """Whether there is time left, and the lane still this process's as far as it knows."""
        return self.world.now < self.until and self.process.may_send(self.generation)


@dataclass(frozen=True, slots=True)
class Taken:
    """What a take got. `half_open`: a probe may pass."""

    claims: list[Claim]
    half_open: bool = False


def hold(world: World, process: Process, lane: LaneId, fence: int) -> Steps:
    """Become the holder of a lane, unless it is somebody else's; its work goes on in a task."""
    yield world.moment()
    if fence in process.lanes:
        return
    process.lanes.add(fence)
    try:
        with world.postgres.begin(process) as tx:
            no = process.no
            yield from tx.lock(("lanes", lane))
            row: Lane = tx.get("lanes", lane)
            ours = row.fence == fence and row.owner is None
            if ours:
                tx.put("lanes", lane, replace(row, owner=no))
            tx.commit()
    except (Lost, Deadlock):
        process.lanes.discard(fence)
        raise
    if ours:
        world.say(f"{process.name} holds {lane}")
        process.spawn(_run(Hold(world, process, lane, fence, world.now + HOLD_S, process.generation)))
    else:
        process.lanes.discard(fence)


def _run(hold: Hold) -> Steps:
    try:
        yield from (_send_heads(hold) if is_ordered(hold.lane) else _refill(hold))
        yield from _release(hold)
    except (Lost, Deadlock):
        hold.world.say(f"{hold.process.name} leaves {hold.lane} to the beat")
    hold.process.lanes.discard(hold.fence)


def _refill(hold: Hold) -> Steps:
    flight = Flight()
    while hold.goes_on():
        if flight.count < WIDTH:
            taken = yield from _take(hold, limit=WIDTH - flight.count)
            probing = taken.half_open and not taken.claims
            if probing:
                taken = yield from _take(hold, limit=1, probes=True)
            if taken.claims:
                claims, generation = taken.claims, hold.generation
                yield from ship(hold.world, hold.process, claims, generation=generation, flight=flight)
            if probing or not taken.claims:
                return
        yield hold.world.blink()


def _send_heads(hold: Hold) -> Steps:
    """Head after head, each in a seat taken before; the lane is kept until its head is recorded, however long."""
    while hold.goes_on():
        seat_s = hold.world.moment()
        if hold.world.rules.seat_before_take:
            yield seat_s
        generation = hold.process.generation
        taken = yield from _take(hold, limit=1)
        if taken.half_open and not taken.claims:
            generation = hold.process.generation
            taken = yield from _take(hold, limit=1, probes=True)
        if not taken.claims:
            return
        if not hold.world.rules.seat_before_take:
            yield seat_s
        sending = _send_head(hold, taken.claims[0], generation=generation)
        if not hold.world.rules.holder_waits_for_record:
            hold.process.spawn(sending)
            return
        yield from sending


def _send_head(hold: Hold, claim: Claim, *, generation: int) -> Steps:
    world, process = hold.world, hold.process
    yield world.blink()
    outcome = "put back"
    if process.may_send(generation):
        outcome = yield from post(world, process, claim)
    yield from record(world, process, claim, outcome=outcome)
    if outcome == "dead" and not world.rules.record_blocks_lane:
        process.spawn(_block(hold, claim))


def _block(hold: Hold, claim: Claim) -> Steps:
    yield hold.world.moment()
    with hold.world.postgres.begin(hold.process) as tx:
        yield from tx.lock(("lanes", hold.lane))
        tx.put("lanes", hold.lane, replace(tx.get("lanes", hold.lane), blocked_by=claim.id))
        tx.commit()


# ---- taking ----------------------------------------------------------------------------------------------------------


def _take(hold: Hold, *, limit: int, probes: bool = False) -> Asking[Taken]:
    world, process, lane = hold.world, hold.process, hold.lane
    durable = is_ordered(lane) and world.rules.heads_are_durable
    claims: list[Claim] = []
    hold.asked += 1
    try:
        with world.postgres.begin(process) as tx:
            no = process.no
            gate = yield from gates.lock(world, tx, lane, fence=hold.fence, no=no)
            if gate is None:
                return Taken([])
            probes = probes and gates.try_probe(world, tx, lane, gate)
            if probes:
                process.probing[lane[0]] = gate.epoch
            half_open = gates.is_half_open(world, gate)
            if probes or not gates.is_closed(world, gate):
                ids = yield from _next(world, tx, lane, limit=1 if probes else limit)
                claims = [_own(world, tx, id, no=no, gate=gate, probes=probes) for id in ids]
            if probes and not claims:
                gates.give_up_probe(tx, lane)
            process.held.update((claim.id, claim.fence) for claim in claims)
            yield world.moment()
            tx.commit(Commit.SYNCHRONOUS if durable else Commit.ASYNCHRONOUS)
    except Deadlock:
        return Taken([])
    except Lost:
        if world.rules.forget_failed_take:
            process.held.difference_update((claim.id, claim.fence) for claim in claims)
        raise
    claims = [replace(claim, made_at=world.now) for claim in claims]
    hold.taken += len(claims)
    world.say(f"{process.name} takes {[claim.id for claim in claims]}")
    return Taken(claims, half_open)


def _next(world: World, tx: Transaction, lane: LaneId, *, limit: int) -> Asking[list[int]]:
    """Lock and return what is to be sent next: of a FIFO lane its head, of another what is due."""
    if is_ordered(lane):
        row: Lane = tx.get("lanes", lane)
        head = next_in(world, tx, lane)
        if head is None or (row.blocked_by is not None and world.rules.take_refuses_blocked):
            return []
        yield from tx.lock(("live", head[0]))
        newest: Delivery | None = tx.get("live", head[0])
        return [head[0]] if newest is not None and is_due(world, newest) else []
    due = sorted(one for one in _waiting(tx, lane) if one[0] <= world.now)
    return [id for _, id in due if tx.try_lock(("live", id))][:limit]


def _own(world: World, tx: Transaction, id: int, *, no: int, gate: Lane, probes: bool) -> Claim:
    row: Delivery = tx.get("live", id)
    fence = world.fence()
    owner = no if world.rules.take_owns else None
    tx.put("live", id, replace(row, due_at=None, fence=fence, owner=owner, sent_at=world.now))
    return Claim(id, fence, no, row.attempts, world.now, row.lane, world.now, gate.epoch, row.seq, probes)


# ---- letting go ------------------------------------------------------------------------------------------------------


def _release(hold: Hold) -> Steps:
    world, lane = hold.world, hold.lane
    with world.postgres.begin(hold.process) as tx:
        early = None if world.rules.lock_before_release else [_next_due(world, tx, lane)]
        if early is not None:
            yield world.moment()
        if not (yield from gates.lock_held(tx, lane, fence=hold.fence, no=hold.process.no)):
            return
        if early is None:
            yield world.moment()
        row: Lane = tx.get("lanes", lane)
        due = early[0] if early is not None else _next_due(world, tx, lane)
        tx.put("lanes", lane, row.let_go(None if row.blocked_by is not None else due))
        tx.commit()
    world.ghost.let_go(lane, asked=hold.asked, taken=hold.taken, due=due)
    world.say(f"{hold.process.name} releases {lane} until {due}")


def _next_due(world: World, tx: Transaction, lane: LaneId) -> float | None:
    """When the next is due; of a FIFO lane when its head is: while that is being sent the lane sleeps."""
    if is_ordered(lane) and world.rules.release_looks_at_head:
        head = head_of(tx, lane)
        return head[1].due_at if head is not None else None
    return min((due_at for due_at, _ in _waiting(tx, lane)), default=None)


def _waiting(tx: Transaction, lane: LaneId) -> list[tuple[float, int]]:
    return [(row.due_at, id) for id, row in tx.scan("live") if row.lane == lane and row.due_at is not None]
