"""One run of the model: a seed, the rules, and what goes wrong; and the search for runs that break a promise."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf

from tests.model.faults import FAULTS, WORKERS, Trouble, outage, start_worker
from tests.model.gates import pause_for_a_while
from tests.model.intake import Event, accept, cancel_waiting
from tests.model.order import release_lane
from tests.model.postgres import Steps
from tests.model.rows import Lane, Violation, is_ordered
from tests.model.rules import Rules
from tests.model.watch import watch
from tests.model.world import Process, World

_TROUBLED_S = 50.0
_BURSTS = 4
_BURSTS_WITHIN_S = 25.0
_HEALS_WITHIN_S = 90.0
_MOST_STEPS = 60_000


@dataclass(frozen=True, slots=True)
class Broken:
    """A run that broke a promise, with its schedule."""

    seed: int
    why: str
    log: list[str]


def run(seed: int, rules: Rules, trouble: Trouble) -> Broken | None:
    """Let the world go its way for 30 s, then calm down; return what broke, if anything."""
    world = World(seed, rules)
    try:
        _live_through(world, trouble)
    except Violation as cause:
        return Broken(seed, str(cause), world.log)
    return None


def _live_through(world: World, trouble: Trouble) -> None:
    web = world.start("web")
    world.start("ghost").spawn(watch(world))
    for endpoint in {lane[0] for lane in trouble.lanes}:
        world.postgres.table("lanes")[endpoint, ""] = Lane(epoch=world.fence())
    bursts = [1 + world.random.random() * _BURSTS_WITHIN_S for _ in range(_BURSTS)]
    for name in WORKERS[: trouble.workers]:
        start_worker(world, name, trouble)
    for steps in _happenings(world, web, trouble):
        web.spawn(steps, after_s=world.random.choice(bursts) + world.random.random())
    _go_on(world, until=_TROUBLED_S)
    _calm_down(world)
    _go_on(world, until=world.now + _HEALS_WITHIN_S)
    _judge(world)


def _happenings(world: World, web: Process, trouble: Trouble) -> list[Steps]:
    random = world.random
    found = [accept(world, web, _event(world, number, trouble)) for number in range(trouble.events)]
    found += [cancel_waiting(world, web, random.choice(trouble.lanes)[0]) for _ in range(trouble.cancels)]
    found += [pause_for_a_while(world, web, random.choice(trouble.lanes)[0]) for _ in range(trouble.pauses)]
    found += [outage(world, random.choice(trouble.lanes)[0]) for _ in range(trouble.outages)]
    ordered = [lane for lane in trouble.lanes if is_ordered(lane)]
    found += [release_lane(world, web, random.choice(ordered)) for _ in range(trouble.releases)]
    if trouble.faults:
        found += [FAULTS[random.choice(trouble.faults)](world, trouble) for _ in range(random.randint(1, trouble.most))]
    return found


def _event(world: World, number: int, trouble: Trouble) -> Event:
    lanes = world.random.sample(trouble.lanes, world.random.randint(1, 2))
    return Event(tuple((10 * number + i, lane) for i, lane in enumerate(lanes)))


def _go_on(world: World, *, until: float) -> None:
    for _ in range(_MOST_STEPS):
        if world.now >= until or (world.calm and not _unsettled(world)):
            return
        world.step()


def _calm_down(world: World) -> None:
    world.calm = True
    world.say("--- no more faults ---")
    for process in world.processes.values():
        if process.stopped_until < inf:
            process.stopped_until = min(process.stopped_until, world.now)
        process.replies_to_lose = 0
    world.processes["web"].spawn(_skip_dead_heads(world))


def _skip_dead_heads(world: World) -> Steps:
    while True:
        for lane, row in list(world.postgres.table("lanes").items()):
            if row.blocked_by is not None:
                yield from release_lane(world, world.processes["web"], lane)
        yield 1.0


def _unsettled(world: World) -> set[int]:
    history = world.postgres.table("history")
    return {id for id in world.ghost.accepted if id not in history}


def _judge(world: World) -> None:
    unsettled = sorted(_unsettled(world))
    if not unsettled:
        return
    queued = {id for event in world.postgres.table("outbox").values() for id, _ in event.deliveries}
    live = world.postgres.table("live")
    lost = [id for id in unsettled if id not in live and id not in queued]
    if lost:
        raise Violation(f"deliveries {lost} are lost")
    rows = [live.get(id) for id in unsettled]
    raise Violation(f"deliveries {unsettled} are stuck: {rows}; lanes {world.postgres.table('lanes')}")


def search(rules: Rules, trouble: Trouble, *, seeds: Iterable[int]) -> Broken | None:
    """Run the seeds until one breaks a promise."""
    return next((broken for seed in seeds if (broken := run(seed, rules, trouble))), None)
