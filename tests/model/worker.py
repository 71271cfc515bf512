"""Deliveries that a worker owns are sent and recorded: deliver.py, sender.py, posting.py, record.py, recorder.py."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from tests.model.circuits import hear
from tests.model.gates import Asking, is_closed, park
from tests.model.intake import ring
from tests.model.order import count_late, move_head
from tests.model.postgres import Commit, Deadlock, Lost, Steps, Transaction
from tests.model.rows import Claim, Delivery, Lane, gate_of
from tests.model.world import Process, World

MOST_ATTEMPTS = 3


@dataclass(slots=True)
class Flight:
    """How many deliveries of a held lane are on their way."""

    count: int = 0


def deliver(world: World, process: Process, batch: Sequence[tuple[int, int]]) -> Steps:
    """Claim what no gate holds of these deliveries, and send what is ours."""
    yield world.moment()
    batch = yield from park(world, process, batch)
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
                no, read_at = process.no, world.now
                gates: dict[object, Lane] = dict(tx.scan("lanes"))
                yield world.blink()
                yield from tx.lock(*(("live", id) for id, _ in sorted(keys)))
                yield world.blink()
                for id, fence in keys:
                    row: Delivery | None = tx.get("live", id)
                    if row is not None and row.fence == fence and row.owner is None:
                        gate = gates[gate_of(row.lane)]
                        if not is_closed(world, gate) or not world.rules.claim_looks_at_gates:
                            tx.put("live", id, replace(row, owner=no))
                            claims.append(Claim(id, fence, no, row.attempts, world.now, row.lane, read_at, gate.epoch))
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
    if process.may_send(generation):
        outcome = yield from post(world, process, claim)
        process.spawn(record(world, process, claim, outcome=outcome))
    else:
        world.say(f"{process.name} drops {claim.id}")
        _put_back(world, process, [claim])
    flight.count -= 1


def post(world: World, process: Process, claim: Claim) -> Asking[str]:
    """POST a delivery; return what becomes of it."""
    place = "" if claim.seq is None else f" ({claim.lane[1]}, number {claim.seq})"
    probe = " as a probe" if claim.probes else ""
    world.say(f"{process.name} POSTs {claim.id}{place}, attempt {claim.attempts + 1}{probe}")
    world.ghost.post(claim, world.postgres.table("live").get(claim.id), process=process, now=world.now)
    yield world.moment() + world.moment()
    world.ghost.answered(claim)
    if world.is_well(claim.lane[0]):
        return "delivered"
    return "dead" if claim.attempts + 1 >= MOST_ATTEMPTS else "waiting"


def _put_back(world: World, process: Process, claims: Iterable[Claim]) -> None:
    for claim in claims:
        process.spawn(record(world, process, claim, outcome="put back"))


def record(world: World, process: Process, claim: Claim, *, outcome: str) -> Steps:
    """Write an outcome, for as long as it takes; "put back": it was not sent."""
    careless = outcome == "put back" or (outcome != "dead" and (claim.seq is None or not world.rules.heads_are_durable))
    while True:
        yield world.moment()
        try:
            with world.postgres.begin(process) as tx:
                yield from _move_on(world, tx, claim, outcome=outcome)
                if claim.seq is not None and outcome != "put back":
                    if outcome != "waiting":
                        yield from move_head(world, tx, claim, dead=outcome == "dead")
                    yield from count_late(tx, claim)
                tx.commit(Commit.ASYNCHRONOUS if careless else Commit.SYNCHRONOUS)
            break
        except (Lost, Deadlock):
            yield 0.5
    world.say(f"{process.name} records {claim.id} {outcome}")
    process.held.discard((claim.id, claim.fence))
    if outcome != "put back":
        process.spawn(hear(world, process, claim, good=outcome == "delivered"))


def _move_on(world: World, tx: Transaction, claim: Claim, *, outcome: str) -> Steps:
    row: Delivery | None = tx.get("live", claim.id)
    if row is None or (row.fence != claim.fence and world.rules.fence_on_record):
        return
    yield from tx.lock(("live", claim.id))
    row = tx.get("live", claim.id)
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
