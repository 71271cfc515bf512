"""One run of the model: a seed, the rules, and what goes wrong; and the search for runs that break a promise."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.model.beats import Clock, beat_on
from tests.model.intake import Event, accept, cancel_waiting
from tests.model.postgres import Steps
from tests.model.rules import Rules
from tests.model.worker import consume
from tests.model.world import LaneId, Process, Violation, World

WORKERS = ("w1", "w2")
LANES: tuple[LaneId, ...] = (("a", ""), ("a", "high"), ("b", ""))
_TROUBLED_S = 30.0
_HEALS_WITHIN_S = 90.0
_MOST_STEPS = 60_000


@dataclass(frozen=True, slots=True)
class Trouble:
    """What a run is made of. `faults` names functions of FAULTS; `most` of them happen."""

    faults: tuple[str, ...]
    most: int = 3
    events: int = 4
    cancels: int = 1
    clocks: int = 1


@dataclass(frozen=True, slots=True)
class Broken:
    """A run that broke a promise, with its schedule."""

    seed: int
    why: str
    log: list[str]


def start_worker(world: World, name: str, *, clocks: int) -> None:
    """Start a worker process, with a clock if it is one of the first `clocks`."""
    process = world.start(name)
    process.spawn(beat_on(world, process), after_s=world.blink())
    process.spawn(consume(world, process), after_s=world.blink())
    if name in WORKERS[:clocks]:
        process.spawn(Clock(world, process).run(), after_s=world.blink())


def kill(world: World, trouble: Trouble) -> Steps:
    """kill -9 of a worker; its messages are delivered again, and a new process takes its place."""
    process = _some_worker(world)
    world.say(f"FAULT kill -9 {process.name}")
    process.alive = False
    world.ghost.harm(world.now)
    world.queue += process.messages
    yield world.random.choice((0.1, 3.0, 12.0))
    start_worker(world, process.name, clocks=trouble.clocks)


def stop(world: World, trouble: Trouble) -> Steps:
    """SIGSTOP of a worker, and SIGCONT after a while."""
    process = _some_worker(world)
    process.stopped_until = world.now + world.random.choice((3.0, 9.0, 12.0, 20.0))
    world.ghost.harm(process.stopped_until)
    world.say(f"FAULT SIGSTOP {process.name} until {process.stopped_until:.3f}")
    yield 0.0


def crash(world: World, trouble: Trouble) -> Steps:
    """Postgres dies and comes back without its last asynchronous commits."""
    down_s = world.random.choice((0.2, 1.0, 3.0, 9.0))
    lost = world.postgres.crash(down_s=down_s)
    world.ghost.harm(world.now + down_s)
    world.say(f"FAULT Postgres crashes for {down_s} s and forgets {lost} commits")
    yield 0.0


def flush(world: World, trouble: Trouble) -> Steps:
    """FLUSHALL."""
    world.say(f"FAULT Redis forgets {[message[0] for message in world.queue]}")
    world.queue.clear()
    yield 0.0


def double(world: World, trouble: Trouble) -> Steps:
    """Redis delivers messages twice."""
    world.queue += [message for message in world.queue if world.random.random() < 0.7]
    yield 0.0


def lose_reply(world: World, trouble: Trouble) -> Steps:
    """The connection breaks after a commit and before its answer."""
    _some_worker(world).replies_to_lose += 1
    yield 0.0


FAULTS: dict[str, Callable[[World, Trouble], Steps]] = {
    one.__name__: one for one in (kill, stop, crash, flush, double, lose_reply)
}


def _some_worker(world: World) -> Process:
    """A worker; rather one that has begun something than one that is idle."""
    busy = [name for name in WORKERS if world.processes[name].held or world.processes[name].lanes]
    return world.processes[world.random.choice(busy or WORKERS)]


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
    for name in WORKERS:
        start_worker(world, name, clocks=trouble.clocks)
    for steps in _happenings(world, web, trouble):
        web.spawn(steps, after_s=world.random.random() * _TROUBLED_S * 0.6)
    _go_on(world, until=_TROUBLED_S)
    _calm_down(world)
    _go_on(world, until=world.now + _HEALS_WITHIN_S)
    _judge(world)


def _happenings(world: World, web: Process, trouble: Trouble) -> list[Steps]:
    random = world.random
    found = [accept(world, web, _event(world, number)) for number in range(trouble.events)]
    found += [cancel_waiting(world, web, random.choice(LANES)[0]) for _ in range(trouble.cancels)]
    if trouble.faults:
        found += [FAULTS[random.choice(trouble.faults)](world, trouble) for _ in range(random.randint(1, trouble.most))]
    return found


def _event(world: World, number: int) -> Event:
    lanes = world.random.sample(LANES, world.random.randint(1, 2))
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
        process.stopped_until = min(process.stopped_until, world.now)
        process.replies_to_lose = 0


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
