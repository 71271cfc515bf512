"""The machine of the primary is lost: Relay goes on with the standby that is promoted, and nothing is lost."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import psycopg

from relay.migrate import migrate
from relay.settings import Settings
from tests.delivery.crew import rows
from tests.faults.test_postgres import Load
from tests.ledger import offenders
from tests.running import Running, until, until_true, worker
from tests.scale import tell
from tests.servers import OwnServer, of_both, own_postgres, standby_of
from tests.shop import Shop, open_shop
from tests.sink import Answer, Arrival, Sink

RECOVERED_S = 20.0
PATHS = ("/plain", "/fifo")


def slow_unless_in_order(arrival: Arrival) -> Answer:
    return Answer(delay_s=0.005 if arrival.path == "/plain" else 0.0)


async def test_a_lost_primary_costs_seconds_and_no_event(settings: Settings, tmp_path: Path) -> None:
    with own_postgres() as primary, Sink(slow_unless_in_order) as sink:
        migrate(primary.server.url)
        with standby_of(primary) as standby:
            await _wait_for_the_standby_at_each_commit(primary)
            given = {**settings.model_dump(), "database_url": of_both(primary, standby)}
            settings = Settings.model_validate(given)
            async with open_shop(settings) as shop:
                await shop.endpoint(sink.url("/plain"))
                await shop.endpoint(sink.url("/fifo"), fifo=True)
                process = worker(settings, tmp_path / "worker.log", processes=2)
                try:
                    await _fail_over(shop, sink, primary=primary, standby=standby)
                    assert await offenders(shop.web.db) == {}
                    _in_order(sink)
                    _no_bug(process)
                finally:
                    process.kill()
                    print(process.text()[-6000:])


async def _wait_for_the_standby_at_each_commit(primary: OwnServer) -> None:
    async with await psycopg.AsyncConnection.connect(primary.server.url, autocommit=True) as conn:
        await conn.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        await conn.execute("SELECT pg_reload_conf()")
        await until_true(conn, "SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'")


async def _fail_over(shop: Shop, sink: Sink, *, primary: OwnServer, standby: OwnServer) -> None:
    load = Load(shop, at_once=1)
    try:
        await until(lambda: len(sink.arrivals) > 100, 30, what="arrivals")
        primary.kill()
        lost_at, known = time.monotonic(), set(load.accepted)
        async with await psycopg.AsyncConnection.connect(standby.server.url, autocommit=True) as conn:
            assert await rows(conn, "SELECT pg_promote()") == [(True,)]
        promoted_at = time.monotonic()
        await until(lambda: len(load.accepted) > len(known) + 5, 30, what="accepted events")
        accepting_s = time.monotonic() - promoted_at
        await until(lambda: not known.issuperset(sink.events("/plain")), 30, what="arrivals of new events")
        sending_s = time.monotonic() - promoted_at
    finally:
        sent = await load.stop()
    for path in PATHS:
        await until(lambda path=path: sent <= set(sink.events(path)), 45, what=f"all at {path}")
    async with shop.web.db.connection() as conn:
        await until_true(conn, "SELECT NOT EXISTS (SELECT 1 FROM live)", 30)
        assert await rows(conn, "SELECT DISTINCT state FROM history") == [("delivered",)]
    tell(
        f"promoted after {promoted_at - lost_at:.1f} s; then accepting in {accepting_s:.1f} s, sending in {sending_s:.1f} s"
    )
    assert max(accepting_s, sending_s) < RECOVERED_S


def _in_order(sink: Sink) -> None:
    fifo = [one.event_id for one in sink.arrivals if one.path == "/fifo"]
    once = [event for event, _ in itertools.groupby(fifo)]
    assert len(once) == len(set(once)), "what repeats is only ever the last one sent"


def _no_bug(process: Running) -> None:
    assert not [line for line in process.text().splitlines() if '"level":"error","logger":"relay' in line]
