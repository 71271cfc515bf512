"""Circuits that open after failures in a row and close after a good probe: relay/delivery/breaker.py and gates.py."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace

from tests.model.postgres import Deadlock, Lost, Steps, Transaction
from tests.model.rows import Claim, Lane, LaneId
from tests.model.world import Process, World

THRESHOLD = 3
RESET_S = 3.0
Move = Callable[[World, Transaction, Claim], Steps]


def hear(world: World, process: Process, claim: Claim, *, good: bool) -> Steps:
    """Take in a recorded outcome: it counts in the epoch it was sent under. Lost when Postgres is away."""
    yield world.moment()
    key = (claim.lane[0], claim.epoch)
    if process.probing.get(key[0]) == claim.epoch:
        del process.probing[key[0]]
        yield from _move(world, process, claim, _close if good else _open_again)
        if good and world.rules.close_rings and world.rules.rings_after_close:
            yield from _move(world, process, claim, _ring)
    elif good:
        world.counters.pop(key, None)
    else:
        world.counters[key] += 1
        if world.counters[key] >= THRESHOLD:
            yield from _move(world, process, claim, _open)


def _move(world: World, process: Process, claim: Claim, move: Move) -> Steps:
    while True:
        try:
            with world.postgres.begin(process) as tx:
                yield from move(world, tx, claim)
                tx.commit()
            return
        except Deadlock:
            continue
        except Lost:
            return


def _open(world: World, tx: Transaction, claim: Claim) -> Steps:
    yield from tx.lock(("lanes", (claim.lane[0], "")))
    gate = _gate(tx, claim)
    if gate.open_until is None and (gate.epoch == claim.epoch or not world.rules.epochs):
        _begin_epoch(world, tx, claim, open_until=world.now + RESET_S)
        world.say(f"the circuit of {claim.lane[0]} opens")


def _open_again(world: World, tx: Transaction, claim: Claim) -> Steps:
    """Lanes that slept until the probe's end sleep until the next one may be."""
    probe_until = _gate(tx, claim).probe_until
    lanes = yield from _lock(tx, claim, until=probe_until)
    gate = _gate(tx, claim)
    if gate.open_until is not None and (gate.epoch == claim.epoch or not world.rules.epochs):
        until = world.now + RESET_S
        for lane in lanes:
            row: Lane = tx.get("lanes", lane)
            if row.ready_at == probe_until:
                tx.put("lanes", lane, replace(row, ready_at=until))
        _begin_epoch(world, tx, claim, open_until=until)
        world.say(f"the circuit of {claim.lane[0]} opens again")


def _close(world: World, tx: Transaction, claim: Claim) -> Steps:
    lanes = yield from _lock(tx, claim)
    gate = _gate(tx, claim)
    if gate.open_until is not None and (gate.epoch == claim.epoch or not world.rules.epochs):
        if world.rules.close_rings:
            for lane in lanes:
                tx.put("lanes", lane, tx.get("lanes", lane).rung(world.now))
        _begin_epoch(world, tx, claim, open_until=None)
        world.say(f"the circuit of {claim.lane[0]} closes")


def _ring(world: World, tx: Transaction, claim: Claim) -> Steps:
    """Once more: a lane that was made while its circuit closed may sleep until the end of the probe."""
    for lane in (yield from _lock(tx, claim)):
        tx.put("lanes", lane, tx.get("lanes", lane).rung(world.now))


def _begin_epoch(world: World, tx: Transaction, claim: Claim, *, open_until: float | None) -> None:
    world.ghost.move_circuit(claim)
    gate = replace(_gate(tx, claim), open_until=open_until, probe_until=0.0, epoch=world.fence())
    tx.put("lanes", (claim.lane[0], ""), gate)


def _gate(tx: Transaction, claim: Claim) -> Lane:
    return tx.get("lanes", (claim.lane[0], ""))


def _lanes(tx: Transaction, claim: Claim) -> list[tuple[LaneId, Lane]]:
    return [(lane, row) for lane, row in tx.scan("lanes") if lane[0] == claim.lane[0]]


def _lock(tx: Transaction, claim: Claim, *, until: float | None = None) -> Generator[float, None, list[LaneId]]:
    """Lock the endpoint's lanes as one statement finds them, or the gate and those that sleep until then."""
    lanes = [lane for lane, row in _lanes(tx, claim) if until is None or lane[1] == "" or row.ready_at == until]
    yield from tx.lock(*(("lanes", lane) for lane in lanes))
    return lanes
