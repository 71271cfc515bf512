"""The bell rings from a task of its own: nobody waits for it, and a Redis that hangs is left alone for a while."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator

import pytest

from relay.intake.doorbell import Doorbell
from relay.queue import Queue


@pytest.fixture
async def queue(redis_url: str) -> AsyncIterator[Queue]:
    made = Queue(redis_url, pool_size=8, timeout_s=2.0)
    yield made
    await made.close()


async def rung(bell: Doorbell) -> None:
    while bell._task is not None:
        await asyncio.wait([bell._task])


async def test_rings_that_come_together_are_one_message(queue: Queue) -> None:
    bell = Doorbell(queue)
    for shard in (1, 2, 1, 3):
        bell.ring(frozenset({shard}))
    await rung(bell)
    assert await queue.length("fan_out") == 1


async def test_a_bell_that_rang_is_silent_until_it_may_ring_again(queue: Queue) -> None:
    for expected in (1, 1):
        await queue.ring([1, 2])
        assert await queue.length("fan_out") == expected
    await queue.ring([2, 3])
    assert await queue.length("fan_out") == 2
    await queue.silence([1, 2])
    await queue.ring([1])
    assert await queue.length("fan_out") == 3


async def test_a_redis_that_hangs_holds_up_nobody_and_is_left_alone_for_a_second() -> None:
    failures: list[float] = []
    with socket.create_server(("127.0.0.1", 0)) as silent:
        queue = Queue(f"redis://127.0.0.1:{silent.getsockname()[1]}/0", pool_size=8, timeout_s=2.0)
        bell = Doorbell(queue, on_failure=lambda: failures.append(time.monotonic()))
        deadline = time.monotonic() + 15
        longest = 0.0
        while len(failures) < 2 and time.monotonic() < deadline:
            began = time.monotonic()
            bell.ring(frozenset({1}))
            longest = max(longest, time.monotonic() - began)
            await asyncio.sleep(0.01)
        await rung(bell)
        await queue.close()
    assert longest < 0.5
    assert len(failures) == 2
    assert failures[1] - failures[0] >= 1.0


async def test_a_ring_under_way_ends_before_the_queue_is_closed(redis_url: str) -> None:
    """Else its connection comes back to a closed pool, and stays open."""
    queue = Queue(redis_url, pool_size=4, timeout_s=2.0)
    doorbell = Doorbell(queue)
    doorbell.ring(frozenset({3}))
    await asyncio.sleep(0)
    await doorbell.close()
    assert await queue.length("fan_out") == 1
    await queue.close()
