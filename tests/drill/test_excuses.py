"""Which repeats a drill forgives: those of what a process that died was sending, once, whenever they come."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from typing import cast

import pytest

from relay.drill.copy import Copy
from relay.drill.faults import Fault
from relay.drill.ledger import Ledger, Repeat
from relay.drill.run import Drill, Excuses, Report
from relay.drill.traffic import Producers
from relay.settings import Settings
from relay.tasks import cancel

PATH = "/first"


async def nothing(_copy: Copy) -> None: ...


NOTHING = Fault("nothing", nothing)


def test_what_was_sent_while_a_process_died_may_come_again_once_and_late() -> None:
    excuses = Excuses()
    excuses.add(since=9.0, until=10.0)
    excuses.add(since=50.0, until=55.0)
    assert excuses.refused([Repeat(PATH, 1, first_at=9.5, at=21.0), Repeat(PATH, 2, first_at=54.0, at=80.0)]) == 0
    assert excuses.refused([Repeat(PATH, 1, first_at=9.5, at=30.0)]) == 1


def test_what_was_sent_at_any_other_time_may_not() -> None:
    excuses = Excuses()
    excuses.add(since=9.0, until=10.0)
    assert excuses.refused([Repeat(PATH, n, first_at=at, at=60.0) for n, at in enumerate((8.0, 10.5, 40.0))]) == 3


class NoCopy:
    """Instead of a copy: a fault breaks nothing, and `relay verify` looks at an empty database."""

    def __init__(self, settings: Settings) -> None:
        self.settings = lambda: settings


@contextlib.asynccontextmanager
async def undisturbed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Drill]:
    """A drill in which all that is accepted arrives at once."""

    async def produce() -> None:
        for n in itertools.count():
            ledger.accept(n)
            ledger.arrive(PATH, "0", n)
            await asyncio.sleep(0.01)

    monkeypatch.setattr("relay.drill.run._STEADY_S", 0.05)
    monkeypatch.setattr("relay.drill.run._AFTER_S", 0.05)
    ledger = Ledger([PATH], frozenset())
    producing = asyncio.create_task(produce())
    nobody = Producers(ledger, urls=[], key="", rate=0.001)
    nobody.start()
    try:
        yield Drill(cast("Copy", NoCopy(settings)), ledger, nobody)
    finally:
        await cancel([producing])


async def test_what_comes_again_between_two_faults_and_after_the_last_is_held_against_them_too(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with undisturbed(settings, monkeypatch) as drill:
        report = Report([await drill.suffer(NOTHING)])
        drill.ledger.arrive(PATH, "0", 0)
        report.outcomes.append(await drill.suffer(NOTHING))
        drill.ledger.arrive(PATH, "0", 1)
        await drill.finish(report)
    assert [(one.repeats, one.unexcused) for one in report.outcomes] == [(0, 0), (1, 1)]
    assert (report.repeats, report.unexcused) == (2, 2)
    assert "2 deliveries were repeated without need" in report.wrong()


async def test_what_a_killed_process_had_sent_may_be_noted_a_moment_later(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []

    async def kill(_copy: Copy) -> None:
        sent.append(drill.ledger.accepted)  # the number that arrives next

    async with undisturbed(settings, monkeypatch) as drill:
        await drill.suffer(Fault("kill", kill, may_repeat=True))
        drill.ledger.arrive(PATH, "0", *sent)
        outcome = await drill.suffer(NOTHING)
    assert (outcome.repeats, outcome.unexcused) == (1, 0)
