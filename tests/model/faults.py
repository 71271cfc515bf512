"""What goes wrong: each fault waits a little for a moment at which it hurts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from tests.model.beats import Clock, beat_on
from tests.model.consumer import consume
from tests.model.postgres import Steps
from tests.model.rows import BLOCKING, LaneId
from tests.model.world import Process, World

WORKERS = ("w1", "w2")
ORDINARY: tuple[LaneId, ...] = (("a", ""), ("a", "high"), ("b", ""))
ORDERED: tuple[LaneId, ...] = (("a", ""), ("f", "fifo:1"), ("f", "fifo:2"), (BLOCKING, "fifo:1"))
_AIMS = 200


@dataclass(frozen=True, slots=True)
class Trouble:
    """What a run is made of. `faults` names functions of FAULTS; `most` of them happen, and these pauses and releases."""

    faults: tuple[str, ...]
    most: int = 3
    events: int = 6
    cancels: int = 2
    workers: int = 2
    clocks: int = 1
    lanes: tuple[LaneId, ...] = ORDINARY
    pauses: int = 0
    releases: int = 0
    outages: int = 0


def start_worker(world: World, name: str, trouble: Trouble) -> None:
    """Start a worker process, with a clock if it is one of the first `trouble.clocks`."""
    process = world.start(name)
    process.spawn(beat_on(world, process), after_s=world.blink())
    process.spawn(consume(world, process), after_s=world.blink())
    if name in WORKERS[: trouble.clocks]:
        process.spawn(Clock(world, process).run(), after_s=world.blink())


def kill(world: World, trouble: Trouble) -> Steps:
    """kill -9 of a worker; its messages are delivered again, and a new process takes its place."""
    yield from _aim(world)
    yield from _kill(world, _some_worker(world), trouble)


def stop(world: World, trouble: Trouble) -> Steps:
    """SIGSTOP of a worker, and SIGCONT after a while."""
    yield from _aim(world)
    process = _some_worker(world)
    _stop(world, process, until=world.now + world.random.choice((3.0, 9.0, 12.0, 20.0)))


def zombie(world: World, trouble: Trouble) -> Steps:
    """SIGSTOP for so long that a worker is given up, and kill -9 when it wakes and claims something all the same."""
    yield from _aim(world)
    process = _some_worker(world)
    _stop(world, process, until=world.now + 12 + 8 * world.random.random())
    yield process.stopped_until - world.now
    for _ in range(_AIMS):
        owners = {row.owner for row in world.postgres.table("live").values()}
        if process.no in owners and process.no not in world.postgres.table("workers"):
            yield from _kill(world, process, trouble)
            return
        yield world.blink() / 5


def cut_off(world: World, trouble: Trouble) -> Steps:
    """A worker's host is unreachable for good; never the last one's."""
    yield from _aim(world)
    process = _some_worker(world)
    if any(one is not process and one.stopped_until < inf for one in _workers(world)):
        _stop(world, process, until=inf)


def crash(world: World, trouble: Trouble) -> Steps:
    """Postgres dies and comes back without its last asynchronous commits."""
    yield 4 * world.random.random()
    yield from _aim(world)
    down_s = world.random.choice((0.2, 1.0, 3.0, 9.0))
    lost = world.postgres.crash(down_s=down_s)
    world.ghost.crash(world.now, back_at=world.now + down_s)
    world.say(f"FAULT Postgres crashes for {down_s} s and forgets {lost} commits")


def flush(world: World, trouble: Trouble) -> Steps:
    """FLUSHALL."""
    for _ in range(_AIMS):
        if world.queue and world.random.random() < 0.5:
            break
        yield world.blink()
    world.say(f"FAULT Redis forgets {[message[0] for message in world.queue]}")
    world.queue.clear()
    world.counters.clear()


def double(world: World, trouble: Trouble) -> Steps:
    """Redis delivers some messages twice."""
    for _ in range(_AIMS):
        if world.queue:
            world.queue += [message for message in world.queue[:10] if world.random.random() < 0.3]
            yield 20 * world.blink()
        yield world.blink()


def lose_reply(world: World, trouble: Trouble) -> Steps:
    """The connection breaks after a commit and before its answer."""
    yield from _aim(world)
    _some_worker(world).replies_to_lose += 1


def outage(world: World, endpoint: str) -> Steps:
    """An endpoint answers 503 for a while."""
    world.outages[endpoint] = world.now + 2 + 8 * world.random.random()
    world.say(f"FAULT {endpoint} is out of order until {world.outages[endpoint]:.3f}")
    yield from ()


FAULTS: dict[str, Callable[[World, Trouble], Steps]] = {
    one.__name__: one for one in (kill, stop, zombie, cut_off, crash, flush, double, lose_reply)
}


def _kill(world: World, process: Process, trouble: Trouble) -> Steps:
    if process.alive:
        world.say(f"FAULT kill -9 {process.name}")
        process.alive = False
        world.ghost.harm(world.now)
        world.queue += process.messages
        yield world.random.choice((0.1, 3.0, 12.0))
        start_worker(world, process.name, trouble)


def _stop(world: World, process: Process, *, until: float) -> None:
    process.stopped_until = max(until, process.stopped_until)
    world.ghost.harm(until)
    world.say(f"FAULT SIGSTOP {process.name} until {until:.3f}")


def _aim(world: World) -> Steps:
    """Wait until some worker has something in hand, and not always for the first such moment."""
    for _ in range(_AIMS):
        busy = any(one.held or one.lanes for one in _workers(world))
        if busy and world.random.random() < 0.3:
            return
        yield world.blink()


def _some_worker(world: World) -> Process:
    """A worker; rather one that has something in hand than one that is idle."""
    workers = _workers(world)
    return world.random.choice([one for one in workers if one.held or one.lanes] or workers)


def _workers(world: World) -> list[Process]:
    return [world.processes[name] for name in WORKERS if name in world.processes]
