"""A shop whose events real worker processes deliver; what a test starts is ended with it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from relay.settings import Settings
from tests.ledger import offenders
from tests.running import Running, worker
from tests.shop import Shop, open_shop

StartWorker = Callable[[], Running]


@pytest.fixture
async def shop(settings: Settings) -> AsyncIterator[Shop]:
    """A shop whose ledger must be right when the test is over, whatever was killed in it."""
    async with open_shop(settings) as shop:
        yield shop
        assert await offenders(shop.web.db) == {}


@pytest.fixture
def start_worker(settings: Settings, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[StartWorker]:
    """Starts worker processes; their logs are shown when the test fails."""
    started: list[Running] = []

    def start() -> Running:
        started.append(worker(settings, tmp_path / f"worker-{len(started)}.log"))
        return started[-1]

    yield start
    for running in started:
        running.kill()
        print(running.text())
