"""Chores: each at its time, and a clock does those it is given beside its own."""

from __future__ import annotations

import asyncio

import pytest

from relay.chores import Chore
from relay.clock import Clock
from relay.settings import Settings
from tests.delivery.crew import open_crew


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
