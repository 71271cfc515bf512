"""What keeps an endpoint's deliveries from going out, and pausing it: relay/delivery/gates.py, take.py and pausing.py."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from math import inf
from typing import TypeVar

from tests.model.intake import ring
from tests.model.postgres import Commit, Deadlock, Lost, Steps, Transaction
from tests.model.rows import Delivery, Lane, LaneId, gate_of
from tests.model.world import Process, World

PROBE_S = 36.0
Answer = TypeVar("Answer")
Asking = Generator[float, None, Answer]


def is_closed(world: World, gate: Lane) -> bool:
    """Whether deliveries are held back: `gate_closed`."""
    is_open = gate.open_until is not None and (world.rules.half_open_is_a_gate or gate.open_until > world.now)
    return gate.paused or is_open


def is_half_open(world: World, gate: Lane) -> bool:
    """Whether somebody may probe."""
    over = gate.open_until is not None and gate.open_until <= world.now
    return over and not gate.paused and gate.probe_until <= world.now


def sleeps_until(world: World, gate: Lane) -> float | None:
    """Until when nobody needs to look at the endpoint's lanes: `gate_sleeps_until`."""
    if not world.rules.gates_put_to_sleep:
        return None
    if gate.paused:
        return inf
    if gate.open_until is not None and max(gate.open_until, gate.probe_until) > world.now:
        return max(gate.open_until, gate.probe_until)
    return None


def lock(world: World, tx: Transaction, lane: LaneId, *, fence: int, no: int) -> Asking[Lane | None]:
    """Lock the gate, then the held lane, and read the gate; None when the lane is not this worker's any more."""
    if not world.rules.gates_after_lock:
        early: Lane = tx.get("lanes", gate_of(lane))
        yield world.moment()
        return early if (yield from lock_held(tx, lane, fence=fence, no=no)) else None
    yield from tx.lock(("lanes", gate_of(lane)))
    ours = yield from lock_held(tx, lane, fence=fence, no=no)
    yield world.moment()
    gate: Lane = tx.get("lanes", gate_of(lane))
    return gate if ours else None


def lock_held(tx: Transaction, lane: LaneId, *, fence: int, no: int) -> Asking[bool]:
    """Lock a lane; whether this worker holds it."""
    yield from tx.lock(("lanes", lane))
    row: Lane = tx.get("lanes", lane)
    return row.fence == fence and row.owner == no


def try_probe(world: World, tx: Transaction, lane: LaneId, gate: Lane) -> bool:
    """Become the endpoint's one probe, in the transaction of a take, which has locked the gate."""
    if not is_half_open(world, gate):
        return False
    if world.rules.one_probe:
        until = world.now + PROBE_S if world.rules.probe_expires else inf
        _put_gate(tx, lane, probe_until=until)
    return True


def give_up_probe(tx: Transaction, lane: LaneId) -> None:
    """Let somebody else probe: there was nothing to probe with."""
    _put_gate(tx, lane, probe_until=0.0)


def _put_gate(tx: Transaction, lane: LaneId, *, probe_until: float) -> None:
    gate: Lane = tx.get("lanes", gate_of(lane))
    tx.put("lanes", gate_of(lane), replace(gate, probe_until=probe_until))


def park(world: World, process: Process, batch: Sequence[tuple[int, int]]) -> Asking[list[tuple[int, int]]]:
    """Put what a gate holds back into its lane; return the rest. Without Postgres that is all: the claim looks, too."""
    try:
        with world.postgres.begin(process) as tx:
            gates = dict(tx.scan("lanes"))
            seen = [(id, fence, row) for id, fence in batch if (row := tx.get("live", id)) is not None]
            behind = {id: fence for id, fence, row in seen if is_closed(world, gates[gate_of(row.lane)])}
            yield world.blink()
            unclaimed = [id for id, fence in behind.items() if _lock_unclaimed(tx, id, fence)]
            yield from _put_back(world, tx, unclaimed)
            tx.commit(Commit.ASYNCHRONOUS)
    except (Lost, Deadlock):
        return list(batch)
    return [(id, fence) for id, fence in batch if id not in unclaimed]


def _lock_unclaimed(tx: Transaction, id: int, fence: int) -> bool:
    if not tx.try_lock(("live", id)):
        return False
    row: Delivery | None = tx.get("live", id)
    return row is not None and row.fence == fence and _is_unclaimed(row)


def _is_unclaimed(row: Delivery) -> bool:
    return row.fence is not None and row.owner is None


def _put_back(world: World, tx: Transaction, ids: Sequence[int]) -> Steps:
    rows: dict[int, Delivery] = {id: tx.get("live", id) for id in ids}
    for id, row in rows.items():
        tx.put("live", id, row.waiting(world.now))
    for lane in sorted({row.lane for row in rows.values()}):
        yield from ring(tx, world, lane, at=world.now)


# ---- what operators do -----------------------------------------------------------------------------------------------


def pause_for_a_while(world: World, web: Process, endpoint: str) -> Steps:
    """Pause an endpoint, and resume it later; one operator at a time."""
    if endpoint in world.paused:
        return
    world.paused.add(endpoint)
    yield from _until_done(world, web, endpoint, _pause)
    in_flight = _in_flight(world, endpoint)
    world.say(f"answers the pause of {endpoint}; in flight: {sorted(id for id, _ in in_flight)}")
    world.ghost.pause(endpoint, in_flight)
    yield 2.0 + 10 * world.random.random()
    world.ghost.resume(endpoint)
    yield from _until_done(world, web, endpoint, _resume)
    world.say(f"answers the resume of {endpoint}")
    world.paused.discard(endpoint)


def _pause(world: World, web: Process, endpoint: str) -> Steps:
    with world.postgres.begin(web) as tx:
        yield from _set_paused(tx, endpoint, True)
        yield world.blink()
        tx.commit()
    yield world.blink()
    if world.rules.pause_takes_back:
        with world.postgres.begin(web) as tx:
            found = [(id, row.fence) for id, row in tx.scan("live") if row.lane[0] == endpoint and _is_unclaimed(row)]
            yield world.blink()
            if world.rules.pause_waits_for_claims:
                yield from tx.lock(*(("live", id) for id, _ in found))
            yield from _put_back(world, tx, [id for id, fence in found if _lock_unclaimed(tx, id, fence)])
            tx.commit()


def _resume(world: World, web: Process, endpoint: str) -> Steps:
    with world.postgres.begin(web) as tx:
        yield from _set_paused(tx, endpoint, False)
        if world.rules.resume_rings:
            yield from _ring_lanes(world, tx, endpoint)
        yield world.blink()
        tx.commit()
    yield world.blink()
    if world.rules.resume_rings and world.rules.rings_after_resume:
        with world.postgres.begin(web) as tx:
            yield from _ring_lanes(world, tx, endpoint)
            tx.commit()


def _set_paused(tx: Transaction, endpoint: str, paused: bool) -> Steps:
    yield from tx.lock(("lanes", (endpoint, "")))
    tx.put("lanes", (endpoint, ""), replace(tx.get("lanes", (endpoint, "")), paused=paused))


def _ring_lanes(world: World, tx: Transaction, endpoint: str) -> Steps:
    lanes = [lane for lane, _ in tx.scan("lanes") if lane[0] == endpoint]
    yield from tx.lock(*(("lanes", lane) for lane in lanes))
    for lane in lanes:
        tx.put("lanes", lane, tx.get("lanes", lane).rung(world.now))


def _until_done(world: World, web: Process, endpoint: str, act: Callable[[World, Process, str], Steps]) -> Steps:
    while True:
        try:
            return (yield from act(world, web, endpoint))
        except (Lost, Deadlock):
            yield 0.5


def _in_flight(world: World, endpoint: str) -> set[tuple[int, int]]:
    rows: list[tuple[int, Delivery]] = [(id, row) for id, row in world.postgres.table("live").items() if row.owner]
    return {(id, row.fence) for id, row in rows if row.lane[0] == endpoint and row.fence is not None}
