"""Attacks on the sandbox through a worker as it really runs, while others have their deliveries."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

from relay.db import Conn
from relay.settings import Settings
from tests.delivery.crew import rows
from tests.running import until_true, worker
from tests.sandbox.attacks import ALL
from tests.shop import Shop, open_shop
from tests.sink import Sink

CHANGES = "function transform(webhook) { webhook.payload.n += 1; return webhook }"
ENDED = "SELECT count(*) = 400 FROM history WHERE event_type = 'good'"
BEGUN = "SELECT count(*) = 2 FROM history WHERE event_type = 'good'"


async def send(shop: Shop) -> None:
    """Two hundred events a second for a second, to two endpoints each, and an attack to each endpoint of attacks."""
    began = time.monotonic()
    for n in range(20):
        if n % 5 == 0:
            await shop.send(1, type="attack")
        await shop.send(10, type="good")
        await asyncio.sleep(max(0.0, began + 0.05 * (n + 1) - time.monotonic()))


async def test_attacks_are_contained_while_two_hundred_others_a_second_go_on(
    settings: Settings, conn: Conn, tmp_path: Path
) -> None:
    """Half of the others are transformed, too, and all are of the attacker's own client."""
    running = worker(settings, tmp_path / "worker.log")
    try:
        with Sink() as sink:
            async with open_shop(settings) as shop:
                await shop.endpoint(sink.url("/plain"), event_types=["good"])
                await shop.endpoint(sink.url("/changed"), event_types=["good"], transformation=CHANGES)
                for code in ALL.values():
                    await shop.endpoint(sink.url("/bad"), event_types=["attack"], transformation=code, max_retries=0)
                await shop.send(1, type="good")  # the worker is up
                await until_true(conn, BEGUN, 20)
                began = time.monotonic()
                await send(shop)
                await until_true(conn, ENDED.replace("400", "402"), 10)
                took_s = time.monotonic() - began
            assert took_s < 8  # with the whole machine busy
            assert sink.by_path() == {"/plain": 201, "/changed": 201}
            assert {json.loads(one.body)["n"] for one in sink.arrivals if one.path == "/changed"} == set(range(1, 11))
        assert await rows(conn, "SELECT DISTINCT state FROM history WHERE event_type = 'good'") == [("delivered",)]
        await until_true(conn, "SELECT count(*) > 0 FROM attempts WHERE event_type = 'attack'", 10)
        attacked = "SELECT DISTINCT reason FROM attempts WHERE event_type = 'attack'"
        assert await rows(conn, attacked) == [("transformation_failed",)]
    finally:
        running.kill()
