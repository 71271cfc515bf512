"""Beats and the clock: relay/delivery/beats.py, relay/clock/."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field, replace
from math import inf

from tests.model.gates import sleeps_until
from tests.model.intake import ring
from tests.model.postgres import Commit, Deadlock, Lost, Steps, Transaction
from tests.model.rows import Delivery, Lane, LaneId, gate_of
from tests.model.world import FRESH_S, Process, World

BEAT_S = 2.0
SILENT_S = 10.0
RESEND_S = 5.0
TICK_S = 0.2
CHORES_S = 1.0


@dataclass(slots=True)
class _Suspects:
    """What Postgres thinks is ours and memory did not know at the last beat."""

    deliveries: set[tuple[int, int]] = field(default_factory=set[tuple[int, int]])
    lanes: set[int] = field(default_factory=set[int])


def beat_on(world: World, process: Process) -> Steps:
    """Beat every 2 s; after a gap, or when given up, begin again under a new number."""
    epoch = world.postgres.epoch
    suspects = _Suspects()
    while True:
        try:
            began = world.now
            alive = process.no != 0 and (yield from _beat(world, process))
            if not alive or began - process.last_beat >= FRESH_S:
                yield from _begin(world, process)
            else:
                if epoch != world.postgres.epoch:
                    process.distrust()
                epoch = world.postgres.epoch
                process.last_beat = began
                yield from _reconcile(world, process, suspects)
        except (Lost, Deadlock):
            pass
        yield BEAT_S


def _begin(world: World, process: Process) -> Steps:
    began, no = world.now, world.fence()
    with world.postgres.begin(process) as tx:
        tx.put("workers", no, world.now)
        yield world.blink()
        tx.commit()
    yield world.blink()
    process.no, process.last_beat = no, began
    process.generation += 1
    world.say(f"{process.name} begins as {no}")


def _beat(world: World, process: Process) -> Generator[float, None, bool]:
    with world.postgres.begin(process) as tx:
        yield from tx.lock(("workers", process.no))
        alive = tx.get("workers", process.no) is not None
        if alive:
            tx.put("workers", process.no, world.now)
        tx.commit(Commit.ASYNCHRONOUS)
    yield world.blink()
    return alive


def _reconcile(world: World, process: Process, suspects: _Suspects) -> Steps:
    if not world.rules.reconcile:
        return
    with world.postgres.begin(process) as tx:
        owned = {(id, row.fence) for id, row in tx.scan("live") if row.owner == process.no}
        held = {row.fence for _, row in tx.scan("lanes") if row.owner == process.no}
        tx.commit()
    yield world.blink()
    unknown, unknown_lanes = owned - process.held, held - process.lanes
    twice, lanes_twice = unknown & suspects.deliveries, unknown_lanes & suspects.lanes
    suspects.deliveries, suspects.lanes = unknown, unknown_lanes
    if twice or lanes_twice:
        with world.postgres.begin(process) as tx:
            yield from _return_lanes(world, tx, process.no, only=lanes_twice)
            yield from _return_deliveries(world, tx, process.no, only=twice)
            tx.commit()
        world.say(f"{process.name} gives back {sorted(id for id, _ in twice)} and {len(lanes_twice)} lanes")


def _return_lanes(world: World, tx: Transaction, no: int, *, only: set[int] | None = None) -> Steps:
    mine = [lane for lane, row in tx.scan("lanes") if row.owner == no and (only is None or row.fence in only)]
    yield from tx.lock(*(("lanes", lane) for lane in mine))
    for lane in mine:
        row: Lane = tx.get("lanes", lane)
        if row.owner == no and (only is None or row.fence in only):
            tx.put("lanes", lane, row.let_go(world.now))


def _return_deliveries(world: World, tx: Transaction, no: int, *, only: set[tuple[int, int]] | None = None) -> Steps:
    yield world.blink()
    mine = [id for id, row in tx.scan("live") if row.owner == no and (only is None or (id, row.fence) in only)]
    rung: set[LaneId] = set()
    for id in [id for id in mine if tx.try_lock(("live", id))]:
        row: Delivery | None = tx.get("live", id)
        if row is not None and row.owner == no and (only is None or (id, row.fence) in only):
            tx.put("live", id, row.waiting(world.now))
            rung.add(row.lane)
    for lane in sorted(rung):
        yield from ring(tx, world, lane, at=world.now)


class Clock:
    """Starts what is due and makes good what was lost; correct if two do it at once."""

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process
        self._connected_since: float | None = None
        self._chores_at = 0.0

    def run(self) -> Steps:
        """Tick for ever."""
        while True:
            try:
                yield from self._tick()
            except (Lost, Deadlock):
                self._connected_since = None
            yield TICK_S

    def _tick(self) -> Steps:
        world = self._world
        if self._connected_since is None:
            self._connected_since = world.now
        with world.postgres.begin(self._process) as tx:
            waiting = any(True for _ in tx.scan("outbox"))
            tx.commit()
        if waiting and ("fan_out",) not in world.queue:
            world.queue.append(("fan_out",))
        yield from self._hand_out()
        if world.now >= self._chores_at:
            self._chores_at = world.now + CHORES_S
            yield from self._give_back()
            yield from self._resend_deliveries()
            yield from self._resend_lanes()

    def _hand_out(self) -> Steps:
        world = self._world
        out: list[tuple[str, LaneId, int]] = []
        with world.postgres.begin(self._process) as tx:
            due = [lane for lane, row in tx.scan("lanes") if row.fence is None and row.due(world.now)]
            picked = [lane for lane in due if tx.try_lock(("lanes", lane))]
            yield world.blink()
            for lane in picked:
                row: Lane = tx.get("lanes", lane)
                opens_at = sleeps_until(world, tx.get("lanes", gate_of(lane)))
                if row.fence is not None:
                    continue
                if row.blocked_by is not None or opens_at is not None:
                    tx.put(
                        "lanes", lane, row.let_go(None if row.blocked_by is not None or opens_at == inf else opens_at)
                    )
                else:
                    out.append(("lane", lane, world.fence()))
                    tx.put("lanes", lane, replace(row, ready_at=None, fence=out[-1][2], sent_at=world.now))
            yield world.blink()
            tx.commit()
        yield world.blink()
        world.queue += out

    def _give_back(self) -> Steps:
        world = self._world
        assert self._connected_since is not None
        if world.now - self._connected_since < SILENT_S:
            return
        with world.postgres.begin(self._process) as tx:
            known = dict(tx.scan("workers"))
            silent = {no for no, beat_at in known.items() if beat_at < world.now - SILENT_S}
            if world.rules.give_back_orphans:
                rows = [*tx.scan("live"), *tx.scan("lanes")]
                silent |= {row.owner for _, row in rows if row.owner is not None and row.owner not in known}
            tx.commit()
        for no in sorted(silent):
            yield world.blink()
            yield from self._give_back_one(no)

    def _give_back_one(self, no: int) -> Steps:
        world = self._world
        with world.postgres.begin(self._process) as tx:
            yield from tx.lock(("workers", no))
            beat_at: float | None = tx.get("workers", no)
            if beat_at is not None and beat_at >= world.now - SILENT_S:
                return
            tx.put("workers", no, None)
            yield from _return_lanes(world, tx, no)
            yield from _return_deliveries(world, tx, no)
            tx.commit()
        world.say(f"the clock of {self._process.name} gives back what {no} had")

    def _resend_deliveries(self) -> Steps:
        world = self._world
        if not world.rules.resend_deliveries:
            return
        messages = sum(message[0] == "deliver" for message in world.queue)
        with world.postgres.begin(self._process) as tx:
            out = [(id, row) for id, row in tx.scan("live") if row.fence is not None and row.owner is None]
            late = [(id, row) for id, row in out if row.sent_at < world.now - RESEND_S and len(out) > messages]
            late = [(id, row) for id, row in late if tx.try_lock(("live", id))]
            for id, row in late:
                tx.put("live", id, replace(row, sent_at=world.now))
            tx.commit()
        yield world.blink()
        if late:
            world.queue.append(("deliver", tuple((id, row.fence) for id, row in late)))
            world.say(f"the clock of {self._process.name} sends {[id for id, _ in late]} again")

    def _resend_lanes(self) -> Steps:
        world = self._world
        if not world.rules.resend_lanes:
            return
        messages = sum(message[0] == "lane" for message in world.queue)
        with world.postgres.begin(self._process) as tx:
            out = [(lane, row) for lane, row in tx.scan("lanes") if row.fence is not None and row.owner is None]
            late = [(lane, row) for lane, row in out if row.sent_at < world.now - RESEND_S and len(out) > messages]
            late = [(lane, row) for lane, row in late if tx.try_lock(("lanes", lane))]
            for lane, row in late:
                tx.put("lanes", lane, replace(row, sent_at=world.now))
            tx.commit()
        yield world.blink()
        world.queue += [("lane", lane, row.fence) for lane, row in late]
