"""Whoever watches lanes: none may sleep for long although something in it could be sent."""

from __future__ import annotations

from tests.model.ghost import is_asleep
from tests.model.postgres import Steps
from tests.model.rows import Delivery, Lane, LaneId, Violation, gate_of
from tests.model.world import World

_LOOK_S = 0.5
#: A resume needs two transactions, the second of which may wait for a lock.
SLEEPS_AT_MOST_S = 8.0


def watch(world: World) -> Steps:
    """Look at all lanes, all the time but while Postgres is away: a second ring may have to wait for it."""
    since: dict[LaneId, float] = {}
    while True:
        sleepers = _sleepers(world) if world.now >= world.postgres.down_until else {}
        since = {lane: since.get(lane, world.now) for lane in sleepers}
        for lane, began in since.items():
            if world.now - began > SLEEPS_AT_MOST_S:
                raise Violation(f"{lane} sleeps since {began:.3f} with work in it: {sleepers[lane]}")
        yield _LOOK_S


def _sleepers(world: World) -> dict[LaneId, Lane | None]:
    lanes = world.postgres.table("lanes")
    rows: dict[LaneId, list[Delivery]] = {}
    for row in world.postgres.table("live").values():
        rows.setdefault(row.lane, []).append(row)
    return {
        lane: lanes.get(lane)
        for lane, mine in rows.items()
        if is_asleep(lanes.get(lane), lanes[gate_of(lane)], mine, now=world.now)
    }
