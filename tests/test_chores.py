"""Chores: each at its time, and a clock does those it is given beside its own."""

from __future__ import annotations

import asyncio

import pytest

from relay.chores import Aside, Chore
from relay.clock import Clock
from relay.settings import Settings
from relay.tasks import cancel
from tests.delivery.crew import open_crew
from tests.running import until


class Counted:
    """Counts its calls; `failing` says whether it raises."""

    def __init__(self, *, failing: type[Exception] | None = None) -> None:
        self.calls = 0
        self._failing = failing

    async def __call__(self) -> None:
        self.calls += 1
        if self._failing is not None:
            raise self._failing


async def test_a_chore_is_done_at_once_and_then_only_when_its_time_has_come() -> None:
    counted = Counted()
    chore = Chore(counted, every_s=10.0)
    now = asyncio.get_running_loop().time()
    for at in (now, now + 1, now + 9):
        await chore.run_if_due(at)
    assert counted.calls == 1
    await chore.run_if_due(now + 11)
    assert counted.calls == 2


@pytest.mark.parametrize(("at_latest_s", "calls"), [(0.2, 2), (60.0, 1)])
async def test_a_slow_chore_rests_and_one_that_heals_no_longer_than_it_may(at_latest_s: float, calls: int) -> None:
    """While connections are slow, what is lost must not wait for fifty times what a look takes."""
    counted = Counted()

    async def slow() -> None:
        await counted()
        await asyncio.sleep(0.05)

    chore = Chore(slow, every_s=0.01, at_latest_s=at_latest_s)
    now = asyncio.get_running_loop().time()
    await chore.run_if_due(now)
    await chore.run_if_due(now + 0.1)
    assert counted.calls == 1
    await chore.run_if_due(now + 1.0)
    assert counted.calls == calls


async def test_a_chore_that_fails_has_had_its_turn() -> None:
    counted = Counted(failing=LookupError)
    chore = Chore(counted, every_s=10.0)
    now = asyncio.get_running_loop().time()
    with pytest.raises(LookupError):
        await chore.run_if_due(now)
    await chore.run_if_due(now + 1)
    assert counted.calls == 1


async def test_the_clock_does_the_chores_it_is_given(settings: Settings) -> None:
    counted = Counted()
    async with open_crew(settings) as crew:
        clock = Clock(
            crew.db, crew.queue, retention_days=30, maintain=lambda: None, chores=[Chore(counted, every_s=60)]
        )
        await clock._tick()
        await clock._tick()
    assert counted.calls == 1


class Held:
    """Begins, and goes on until it is let go."""

    def __init__(self) -> None:
        self.began, self.ended = 0, 0
        self.let_go = asyncio.Event()

    async def __call__(self) -> None:
        self.began += 1
        try:
            await self.let_go.wait()
        finally:
            self.ended += 1


async def test_what_is_done_aside_is_not_waited_for_and_never_done_twice_at_once() -> None:
    held = Held()
    chore = Aside(held, every_s=10.0)
    now = asyncio.get_running_loop().time()
    for at in (now, now + 11, now + 22):
        await chore.run_if_due(at)
        await asyncio.sleep(0)
    assert (held.began, held.ended) == (1, 0)
    held.let_go.set()
    await until(lambda: held.ended == 1, 5)
    await asyncio.sleep(0)
    await chore.run_if_due(asyncio.get_running_loop().time())
    await asyncio.sleep(0)
    assert held.began == 1, "its time has not come again"
    await chore.run_if_due(asyncio.get_running_loop().time() + 11)
    await until(lambda: held.ended == 2, 5)


async def test_what_fails_aside_is_told_and_has_its_next_turn(caplog: pytest.LogCaptureFixture) -> None:
    counted = Counted(failing=LookupError)
    chore = Aside(counted, every_s=10.0)
    for turn in (1, 2):
        await chore.run_if_due(asyncio.get_running_loop().time() + 11 * turn)
        await until(lambda turn=turn: caplog.text.count("a chore failed") == turn, 5)
    assert counted.calls == 2


async def test_a_clock_that_ends_ends_what_is_done_aside(settings: Settings) -> None:
    held = Held()
    async with open_crew(settings) as crew:
        clock = Clock(crew.db, crew.queue, retention_days=30, maintain=lambda: None, chores=[Aside(held, every_s=60)])
        running = asyncio.create_task(clock.run())
        await until(lambda: held.began == 1, 10)
        await cancel([running])
        assert held.ended == 1
