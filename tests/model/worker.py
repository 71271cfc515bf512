"""What a worker process does: relay/delivery/deliver.py, sender.py, recorder.py, and holder.py."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from tests.model.intake import fan_out, ring
from tests.model.postgres import Commit, Deadlock, Lost, Steps, Transaction
from tests.model.world import Claim, Delivery, Lane, LaneId, Message, Process, World

HOLD_S = 5.0
WIDTH = 2
MOST_ATTEMPTS = 4
Answer = TypeVar("Answer")
Asking = Generator[float, None, Answer]


@dataclass(slots=True)
class Flight:
    """How many deliveries of a held lane are on their way."""

    count: int = 0


def consume(world: World, process: Process) -> Steps:
    """Take messages off the queue, in any order, and handle each in a task of its own."""
    while True:
        yield 0.02 + world.blink()
        if world.queue and process.no:
            message = world.queue.pop(world.random.randrange(len(world.queue)))
            process.messages.append(message)
            process.spawn(_handle(world, process, message))


def _handle(world: World, process: Process, message: Message) -> Steps:
    try:
        match message:
            case ("fan_out",):
                yield from fan_out(world, process)
            case ("deliver", batch):
                yield from deliver(world, process, batch)
            case ("lane", lane, fence):
                yield from hold(world, process, lane, fence)
            case _:
                raise AssertionError(message)
    except (Lost, Deadlock):
        yield 0.2
        world.queue.append(message)
    process.messages.remove(message)


# ---- deliveries that were handed out one by one ----------------------------------------------------------------------


def deliver(world: World, process: Process, batch: Sequence[tuple[int, int]]) -> Steps:
    """Claim these deliveries, and send what is ours."""
    yield world.moment()
    generation = process.generation
    new = [key for key in batch if key not in process.held or not world.rules.remember_claims]
    process.held.update(new)
    try:
        claims = yield from _claim(world, process, new)
    except Lost:
        process.held.difference_update(new)
        raise
    process.held.difference_update(set(new) - {(claim.id, claim.fence) for claim in claims})
    yield world.moment()
    yield from ship(world, process, claims, generation=generation, flight=Flight())


def _claim(world: World, process: Process, keys: Sequence[tuple[int, int]]) -> Asking[list[Claim]]:
    while True:
        claims: list[Claim] = []
        try:
            with world.postgres.begin(process) as tx:
                no = process.no
                yield from tx.lock(*(("live", id) for id, _ in sorted(keys)))
                for id, fence in keys:
                    row: Delivery | None = tx.get("live", id)
                    if row is not None and row.fence == fence and row.owner is None:
                        tx.put("live", id, replace(row, owner=no))
                        claims.append(Claim(id, fence, no, row.attempts, world.now))
                tx.commit(Commit.ASYNCHRONOUS)
            world.say(f"{process.name} claims {[claim.id for claim in claims]}")
            return claims
        except Deadlock:
            continue


def ship(world: World, process: Process, claims: Sequence[Claim], *, generation: int, flight: Flight) -> Steps:
    """Read what is to be sent, and offer it to the sender."""
    flight.count += len(claims)
    try:
        with world.postgres.begin(process) as tx:
            yield world.moment()
            tx.commit()
    except Lost:
        if world.rules.put_back_unread:
            _put_back(world, process, claims)
        raise
    for claim in claims:
        process.spawn(_send(world, process, claim, generation=generation, flight=flight))


def _send(world: World, process: Process, claim: Claim, *, generation: int, flight: Flight) -> Steps:
    yield world.moment()
    if not process.may_send(generation):
        world.say(f"{process.name} drops {claim.id}")
        _put_back(world, process, [claim])
    else:
        world.say(f"{process.name} POSTs {claim.id}, attempt {claim.attempts + 1}")
        world.ghost.post(claim, world.postgres.table("live").get(claim.id), now=world.now)
        yield world.moment() + world.moment()
        outcome = "delivered" if world.calm or world.random.random() < 0.6 else "waiting"
        if outcome == "waiting" and claim.attempts + 1 >= MOST_ATTEMPTS:
            outcome = "dead"
        process.spawn(_record(world, process, claim, outcome=outcome))
    flight.count -= 1


def _put_back(world: World, process: Process, claims: Iterable[Claim]) -> None:
    for claim in claims:
        process.spawn(_record(world, process, claim, outcome="put back"))


def _record(world: World, process: Process, claim: Claim, *, outcome: str) -> Steps:
    """Write an outcome, for as long as it takes."""
    while True:
        yield world.moment()
        try:
            with world.postgres.begin(process) as tx:
                yield from tx.lock(("live", claim.id))
                yield from _move_on(world, tx, claim, outcome=outcome)
                tx.commit(Commit.SYNCHRONOUS if outcome == "dead" else Commit.ASYNCHRONOUS)
            break
        except (Lost, Deadlock):
            yield 0.5
    world.say(f"{process.name} records {claim.id} {outcome}")
    process.held.discard((claim.id, claim.fence))


def _move_on(world: World, tx: Transaction, claim: Claim, *, outcome: str) -> Steps:
    row: Delivery | None = tx.get("live", claim.id)
    if row is None or (row.fence != claim.fence and world.rules.fence_on_record):
        return
    if outcome in ("delivered", "dead"):
        tx.put("live", claim.id, None)
        tx.put("history", claim.id, outcome)
    elif row.owner in (None, claim.no) or not world.rules.owner_on_return:
        world.ghost.put_back(claim, row)
        delay_s = 0.0 if outcome == "put back" else 1.0 + 2 * world.random.random()
        tried = int(outcome == "waiting")
        tx.put("live", claim.id, replace(row.waiting(world.now + delay_s), attempts=row.attempts + tried))
        yield from ring(tx, world, row.lane, at=world.now + delay_s)


# ---- lanes -----------------------------------------------------------------------------------------------------------


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
        process.spawn(_run(world, process, lane, fence))
    else:
        process.lanes.discard(fence)


def _run(world: World, process: Process, lane: LaneId, fence: int) -> Steps:
    try:
        yield from _refill(world, process, lane, fence)
        yield from _release(world, process, lane, fence)
    except (Lost, Deadlock):
        world.say(f"{process.name} leaves {lane} to the beat")
    process.lanes.discard(fence)


def _refill(world: World, process: Process, lane: LaneId, fence: int) -> Steps:
    generation, until, flight = process.generation, world.now + HOLD_S, Flight()
    while world.now < until and process.may_send(generation):
        if flight.count < WIDTH:
            claims = yield from _take(world, process, lane, fence=fence, limit=WIDTH - flight.count)
            if not claims:
                return
            yield from ship(world, process, claims, generation=generation, flight=flight)
        yield world.blink()


def _take(world: World, process: Process, lane: LaneId, *, fence: int, limit: int) -> Asking[list[Claim]]:
    claims: list[Claim] = []
    try:
        with world.postgres.begin(process) as tx:
            if not (yield from _lock_held(tx, lane, fence=fence, no=process.no)):
                return []
            yield world.moment()
            claims = _take_due(world, tx, lane, no=process.no, limit=limit)
            process.held.update((claim.id, claim.fence) for claim in claims)
            yield world.moment()
            tx.commit(Commit.ASYNCHRONOUS)
    except Deadlock:
        return []
    except Lost:
        if world.rules.forget_failed_take:
            process.held.difference_update((claim.id, claim.fence) for claim in claims)
        raise
    world.say(f"{process.name} takes {[claim.id for claim in claims]}")
    return claims


def _take_due(world: World, tx: Transaction, lane: LaneId, *, no: int, limit: int) -> list[Claim]:
    due = sorted(
        (row.due_at, id)
        for id, row in tx.scan("live")
        if row.lane == lane and row.due_at is not None and row.due_at <= world.now
    )
    fence = world.fence()
    claims: list[Claim] = []
    for _, id in [pair for pair in due if tx.try_lock(("live", pair[1]))][:limit]:
        row: Delivery = tx.get("live", id)
        owner = no if world.rules.take_owns else None
        tx.put("live", id, replace(row, due_at=None, fence=fence, owner=owner, sent_at=world.now))
        claims.append(Claim(id, fence, no, row.attempts, world.now))
    return claims


def _lock_held(tx: Transaction, lane: LaneId, *, fence: int, no: int) -> Asking[bool]:
    yield from tx.lock(("lanes", lane))
    row: Lane = tx.get("lanes", lane)
    return row.fence == fence and row.owner == no


def _release(world: World, process: Process, lane: LaneId, fence: int) -> Steps:
    with world.postgres.begin(process) as tx:
        early = None if world.rules.lock_before_release else _next_due(tx, lane)
        if early is not None:
            yield world.moment()
        if not (yield from _lock_held(tx, lane, fence=fence, no=process.no)):
            return
        if early is None:
            yield world.moment()
        due = min(early if early is not None else _next_due(tx, lane), default=None)
        tx.put("lanes", lane, Lane(ready_at=due))
        tx.commit()
    world.say(f"{process.name} releases {lane} until {due}")


def _next_due(tx: Transaction, lane: LaneId) -> list[float]:
    return [row.due_at for _, row in tx.scan("live") if row.lane == lane and row.due_at is not None]
