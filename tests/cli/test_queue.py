"""`relay queue rebuild`: does it, and says what it did."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from relay.cli.main import main
from relay.cli.queue import page
from relay.db import Conn
from relay.delivery.rebuild import Rebuilt
from relay.settings import Settings
from tests.delivery.crew import NOWHERE, fan_out, rows
from tests.running import environment
from tests.shop import Shop, open_shop


@pytest.fixture
async def shop(settings: Settings) -> AsyncIterator[Shop]:
    async with open_shop(settings) as shop:
        yield shop


async def test_it_rebuilds_and_says_what_it_did(
    settings: Settings, shop: Shop, conn: Conn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("DATABASE_URL", "REDIS_URL"):
        monkeypatch.setenv(name, environment(settings)[name])
    monkeypatch.delenv("SIGNING_KEY", raising=False)
    await shop.endpoint(NOWHERE)
    await shop.send(3)
    await fan_out(shop)
    await shop.send(1)
    assert await asyncio.to_thread(main, ["queue", "rebuild", "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["deliveries"], done["lanes"], done["shards"]) == (3, 0, 1)
    assert await rows(conn, "SELECT count(*) FROM live WHERE due_at <= now()") == [(3,)]
    assert await asyncio.to_thread(main, ["queue", "rebuild"]) == 0
    assert "0 deliveries" in capsys.readouterr().out


def test_what_was_done_reads_well() -> None:
    assert page(Rebuilt(messages=12_000, deliveries=3, lanes=2, rung=1, shards=4)).splitlines() == [
        "12,000 messages thrown away",
        "3 deliveries and 2 lanes taken back that were handed out and not taken up",
        "1 lanes woken up that would have slept longer",
        "4 of 16 outbox shards rung",
    ]
