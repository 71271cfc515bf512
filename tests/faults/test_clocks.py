"""Two clocks at once, and a leader that freezes, change nothing but latency."""

from __future__ import annotations

import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.db import Conn
from relay.settings import Settings
from tests.faults.conftest import StartWorker
from tests.running import CHECKOUT, Running, environment, until, until_true
from tests.scale import sized, tell
from tests.shop import Shop
from tests.sink import Answer, Arrival, Sink

EVENTS = sized(2_000, 100)
DONE = """SELECT NOT EXISTS (SELECT 1 FROM live) AND NOT EXISTS (SELECT 1 FROM outbox)
          AND NOT EXISTS (SELECT 1 FROM scheduled)"""


@pytest.fixture
def two_leaders(settings: Settings, tmp_path: Path) -> Iterator[list[Running]]:
    argv = [sys.executable, "-m", "dramatiq", "tests.faults.two_clocks", "--processes", "1", "--threads", "8"]
    env = environment(settings, PYTHONPATH=str(CHECKOUT))
    workers = [Running(argv, env, tmp_path / f"leader-{n}.log") for n in range(2)]
    yield workers
    for worker in workers:
        worker.kill()
        print(worker.text())


async def test_two_clocks_at_once_do_nothing_twice(shop: Shop, conn: Conn, two_leaders: list[Running]) -> None:
    chance = random.Random(7)

    def answer(_: Arrival) -> Answer:
        return Answer(status=500 if chance.random() < 0.3 else 200)

    with Sink(answer) as sink:
        patience = {"retry_schedule": [50, 100, 200], "max_retries": 100, "circuit_threshold": 1000}
        for n in range(5):
            await shop.endpoint(sink.url(f"/{n}"), **patience)
        await shop.endpoint(sink.url("/fifo"), fifo=True, **patience)
        sent = await shop.send(EVENTS)
        sent += [str(one.id) for one in await shop.accept(*(shop.event(delay_s=2) for _ in range(50)))]  # pyright: ignore[reportAttributeAccessIssue]
        await until_true(conn, DONE, 60 + EVENTS / 5)  # one after the other, in the FIFO lane
        good = await conn.execute("SELECT count(*) FROM attempts WHERE status = 200")
        assert await good.fetchall() == [(6 * len(sent),)], "each arrived once"
        made = await conn.execute("SELECT count(*) FROM attempts")
        assert await made.fetchall() == [(len(sink.arrivals),)], "every request is an attempt"
    in_order = [int(one.headers["x-relay-sequence"]) for one in sink.arrivals if one.path == "/fifo"]
    assert in_order == sorted(in_order)
    tell(f"{len(sent)} events to 6 endpoints, {len(sink.arrivals)} requests, none twice, the FIFO one in order")


async def test_a_leader_that_freezes_costs_time_and_nothing_else(
    shop: Shop, conn: Conn, start_worker: StartWorker
) -> None:
    frozen_s = sized(20, 12)
    with Sink() as sink:
        await shop.endpoint(sink.url(), retry_schedule=[1000])
        leader = start_worker()
        await until_true(conn, "SELECT EXISTS (SELECT 1 FROM leases WHERE until > now())", 20)
        start_worker()
        await until_true(conn, "SELECT count(*) = 2 FROM workers", 20)
        leader.signal(signal.SIGSTOP)
        began = time.monotonic()
        sent: list[str] = []
        while time.monotonic() - began < frozen_s:
            sent += await shop.send(5)
            sent += [str(one.id) for one in await shop.accept(shop.event(delay_s=1))]  # pyright: ignore[reportAttributeAccessIssue]
            earlier = set(sent[:-30])
            await until(lambda earlier=earlier: earlier <= set(sink.events()), 15, what="what was sent a while ago")
        leader.signal(signal.SIGCONT)
        await until(lambda: set(sink.events()) == set(sent), 20, what="every arrival")
        await until_true(conn, DONE, 20)
    twice = sum(count > 1 for count in sink.events().values())
    tell(f"frozen for {frozen_s} s: {len(sent)} events, {twice} twice")
    assert twice <= 20, "only what was under way when it froze may come twice"
