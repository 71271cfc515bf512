"""Lists come from a replica while it is near, and from the primary, without an error, when it is behind or away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest
from falcon.testing import ASGIConductor
from hypothesis import given
from hypothesis import strategies as st

from api.app import create_app
from relay import replica
from relay.migrate import migrate
from relay.replica import Positions
from relay.settings import Settings
from tests.api.conftest import Api
from tests.running import until_so
from tests.servers import OwnServer, own_postgres, standby_of

COUNT = "{ events { totalCount } }"
SEND = 'mutation { sendEvent(input: {eventType: "a.b", payload: 1}) { id } }'


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1), st.integers(-1, 100))
def test_what_a_replica_shows_is_never_thought_newer_than_it_is(steps: list[tuple[int, int]], replayed: int) -> None:
    positions, at, position = Positions(), 0.0, 0
    passed: list[tuple[float, int]] = []
    for seconds, written in steps:
        at, position = at + seconds, position + written
        positions.passed(position, at=at)
        passed.append((at, position))
    shown = positions.shown_at(replayed)
    assert all(where <= replayed for when, where in passed if when < shown)
    newest = max((when for when, where in passed if where <= replayed), default=-float("inf"))
    assert shown == newest or newest < at - 2 * replica.MAX_LAG_S


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[OwnServer, OwnServer]]:
    with own_postgres() as primary:
        migrate(primary.server.url)
        with standby_of(primary) as standby:
            yield primary, standby


@asynccontextmanager
async def opened(settings: Settings, pair: tuple[OwnServer, OwnServer]) -> AsyncIterator[Api]:
    primary, standby = (server.server.url for server in pair)
    urls = {"database_url": primary, "database_replica_url": standby}
    async with ASGIConductor(create_app(settings.model_copy(update=urls))) as conductor:
        yield Api(conductor)


async def ask(standby: OwnServer, statement: str) -> None:
    async with await psycopg.AsyncConnection.connect(standby.server.url, autocommit=True) as conn:
        await conn.execute(statement.encode())


async def test_lists_are_the_replicas_until_it_is_behind_or_away(
    settings: Settings,
    pair: tuple[OwnServer, OwnServer],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    _, standby = pair
    caplog.set_level("INFO", "relay.replica")

    async def shows(count: int) -> bool:
        return (await api.data(COUNT))["events"]["totalCount"] == count

    async with opened(settings, pair) as api:
        await until_so(lambda: _told(caplog, "the replica answers"), 15)
        await api.data(SEND)
        await until_so(lambda: shows(1), 10)
        await ask(standby, "SELECT pg_wal_replay_pause()")
        sent = (await api.data(SEND))["sendEvent"]["id"]
        assert await shows(1), "a list is the replica's, and stale"
        by_id = f'{{ event(id: "{sent}") {{ id }} }}'
        assert (await api.data(by_id))["event"]["id"] == sent, "what was just made is found by its id"
        monkeypatch.setattr(replica, "MAX_LAG_S", 3.0)
        await until_so(lambda: shows(2), 15)
        await until_so(lambda: _told(caplog, "the primary answers"), 10)
        await ask(standby, "SELECT pg_wal_replay_resume()")
        monkeypatch.setattr(replica, "MAX_LAG_S", 30.0)
        caplog.clear()
        await until_so(lambda: _told(caplog, "the replica answers"), 15)
        standby.kill()
        began = time.monotonic()
        assert await shows(2)
        assert time.monotonic() - began < 3.0
        assert all(await asyncio.gather(*(shows(2) for _ in range(5))))
        await until_so(lambda: _told(caplog, "the primary answers"), 10)
        standby.start()
        caplog.clear()
        await until_so(lambda: _told(caplog, "the replica answers"), 20)


async def _told(caplog: pytest.LogCaptureFixture, words: str) -> bool:
    return words in caplog.text


async def test_a_replica_that_never_was_there_costs_nobody_anything(settings: Settings, tmp_path: Path) -> None:
    nowhere = settings.model_copy(update={"database_replica_url": "postgresql://relay@127.0.0.1:1/relay"})
    async with ASGIConductor(create_app(nowhere)) as conductor:
        assert (await Api(conductor).data(COUNT))["events"]["totalCount"] == 0
