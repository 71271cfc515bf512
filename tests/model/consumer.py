"""Messages: a worker takes them off the queue, in any order, and handles each in a task of its own."""

from __future__ import annotations

from tests.model.holder import hold
from tests.model.intake import fan_out
from tests.model.postgres import Deadlock, Lost, Steps
from tests.model.worker import deliver
from tests.model.world import Message, Process, World


def consume(world: World, process: Process) -> Steps:
    """Take messages off the queue for as long as the process lives."""
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
