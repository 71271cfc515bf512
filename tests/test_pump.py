"""The pump: all that waits is worked on, by no more than may at once, whenever it comes."""

from __future__ import annotations

import asyncio
from collections import deque

import pytest

from relay.pump import Pump


async def test_no_more_work_at_once_than_may_and_nothing_is_left() -> None:
    waiting, at_work, most, done = deque(range(50)), 0, 0, asyncio.Event()

    async def work() -> None:
        nonlocal at_work, most
        waiting.popleft()
        at_work += 1
        most = max(most, at_work)
        await asyncio.sleep(0.001)
        at_work -= 1
        if not waiting and not at_work:
            done.set()

    pump = Pump(work, waiting, at_once=3)
    for _ in range(10):
        pump.wake()
    async with asyncio.timeout(5):
        await done.wait()
    assert most == 3


async def test_what_comes_in_one_turn_of_the_loop_is_seen_by_the_first() -> None:
    waiting: deque[int] = deque()
    taken: list[int] = []

    async def work() -> None:
        taken.append(len(waiting))
        waiting.clear()

    pump = Pump(work, waiting, at_once=2)
    for n in range(7):
        waiting.append(n)
        pump.wake()
    await asyncio.sleep(0.01)
    assert taken == [7]


@pytest.mark.parametrize("many", [1, 2])
async def test_what_comes_the_moment_all_end_is_worked_on_too(many: int) -> None:
    waiting, together, done = deque(range(many)), asyncio.Event(), 0

    async def work() -> None:
        nonlocal done
        waiting.popleft()
        await together.wait()
        done += 1

    pump = Pump(work, waiting, at_once=many)
    for _ in range(many):
        pump.wake()
    await asyncio.sleep(0.01)
    together.set()
    await asyncio.sleep(0)
    waiting.append(0)
    pump.wake()
    await asyncio.sleep(0.01)
    assert done == many + 1
