"""Processes that beat, and a clock that leads: rows that the processes' own code wrote."""

from __future__ import annotations

from relay.db import Conn, Database
from relay.delivery.beats import Beats
from relay.delivery.holdings import Holdings
from relay.presence import Presence
from relay.settings import Settings
from tests.delivery.crew import open_crew, rows
from tests.doctor.asking import ask, fails, passes, warns


async def test_enough_processes_pass_and_silent_ones_do_not_count(settings: Settings, conn: Conn) -> None:
    db = Database(settings)
    await db.open()
    for _ in range(2):
        await Presence(db).beat()
    for _ in range(3):
        await Beats(db, Holdings()).beat()
    found = await ask(settings, "fleet", "postgres")
    passes(found, "web-processes", saying="2 web processes on 1 machines")
    passes(found, "worker-processes", saying="3 worker processes")
    passes(found, "max-connections", saying="5 processes with 4 connections each")
    each = (int(str((await rows(conn, "SHOW max_connections"))[0][0])) - 23) // 5
    found = await ask(settings.model_copy(update={"database_max_conns": each}), "postgres")
    warns(found, "max-connections", saying="a release, which runs a quarter more")
    await conn.execute("UPDATE workers SET beat_at = now() - interval '20 s' WHERE no = (SELECT min(no) FROM workers)")
    await conn.execute("UPDATE web_processes SET beat_at = now() - interval '20 s'")
    found = await ask(settings, "fleet")
    fails(found, "web-processes", saying="0 web processes")
    fails(found, "worker-processes", saying="2 worker processes")
    await db.close()


async def test_a_clock_that_leads_passes_until_its_lease_is_over(settings: Settings, conn: Conn) -> None:
    fails(await ask(settings, "fleet"), "clock-leader", saying="has ever led")
    async with open_crew(settings) as crew:
        assert await crew.clock._lease()
        passes(await ask(settings, "fleet"), "clock-leader")
    await conn.execute("UPDATE leases SET until = now() - interval '5 s'")
    fails(await ask(settings, "fleet"), "clock-leader", saying="for 5 s")


async def test_events_from_sql_that_wait_or_were_refused_are_told_of(settings: Settings, conn: Conn) -> None:
    passes(await ask(settings, "fleet"), "sql-events")
    await conn.execute("INSERT INTO tenants (id, name) VALUES (gen_random_uuid(), 'shop')")
    await conn.execute("SELECT relay.send_event('shop', 'a', i::text) FROM generate_series(1, 2) AS i")
    passes(await ask(settings, "fleet"), "sql-events")
    await conn.execute("UPDATE producer_events SET sent_at = now() - interval '90 s' WHERE n = 1")
    fails(await ask(settings, "fleet"), "sql-events", saying="the oldest for 90 s")
    await conn.execute("UPDATE producer_events SET refused = 'of the test'")
    warns(await ask(settings, "fleet"), "sql-events", saying="2 events from SQL")
