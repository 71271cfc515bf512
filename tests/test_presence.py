"""Web processes are listed while they live, and nothing about the list can hurt them."""

from __future__ import annotations

import asyncio
import os
import time

from relay import presence
from relay.db import Conn, Database
from relay.presence import Presence
from relay.runtime import Web
from relay.settings import Settings
from tests.delivery.crew import rows
from tests.running import until_true
from tests.shop import open_shop


async def test_a_web_process_is_listed_until_it_ends(settings: Settings, conn: Conn) -> None:
    first, second = Web(settings), Web(settings)
    await first.open()
    await second.open()
    await until_true(conn, "SELECT count(*) = 2 FROM web_processes")
    assert {pid for (pid,) in await rows(conn, "SELECT pid FROM web_processes")} == {os.getpid()}
    assert await presence.alive(conn) == (2, 1)
    await first.close()
    await second.close()
    assert await rows(conn, "SELECT count(*) FROM web_processes") == [(0,)]


async def test_who_is_silent_does_not_count_and_goes_after_a_minute(settings: Settings, conn: Conn) -> None:
    db = Database(settings)
    await db.open()
    mine, killed = Presence(db), Presence(db)
    await killed.beat()
    await conn.execute("UPDATE web_processes SET beat_at = now() - interval '20 s'")
    await mine.beat()
    assert await presence.alive(conn) == (1, 1)
    assert await rows(conn, "SELECT count(*) FROM web_processes") == [(2,)]
    await conn.execute("UPDATE web_processes SET beat_at = now() - interval '61 s'")
    await mine.beat()
    assert await rows(conn, "SELECT id FROM web_processes") == [(mine._id,)]
    await db.close()


async def test_many_that_beat_at_once_past_the_dead_end_up_listed(settings: Settings, conn: Conn) -> None:
    db = Database(settings)
    await db.open()
    dead = [Presence(db) for _ in range(20)]
    await asyncio.gather(*(one.beat() for one in dead))
    await conn.execute("UPDATE web_processes SET beat_at = now() - interval '61 s'")
    living = [Presence(db) for _ in range(8)]
    await asyncio.gather(*(one.beat() for one in living))
    assert {id for (id,) in await rows(conn, "SELECT id FROM web_processes")} == {one._id for one in living}
    await db.close()


async def test_a_schema_without_the_list_hurts_nobody(settings: Settings, conn: Conn) -> None:
    await conn.execute("DROP TABLE web_processes")
    async with open_shop(settings) as shop:
        await shop.web.presence.beat()
        assert len(await shop.send(1)) == 1


async def test_without_postgres_a_beat_is_left_out_and_the_end_does_not_wait(settings: Settings) -> None:
    db = Database(settings)
    db._pool.timeout = 0.2
    one = Presence(db)
    await db.open()
    await one.beat()
    await db.close()
    await one.beat()
    began = time.monotonic()
    await one.end()
    assert time.monotonic() - began < 2
