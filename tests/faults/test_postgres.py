"""Postgres crashes under load: nothing that was accepted is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psycopg

from relay.db import migrate
from relay.intake.accept import Accepted
from relay.settings import Settings
from tests.running import until, until_true, worker
from tests.servers import own_postgres
from tests.shop import open_shop
from tests.sink import Answer, Sink

CRASHES = 2


async def test_a_crash_of_postgres_under_load_loses_nothing(
    settings: Settings, tmp_path: Path
) -> None:
    with own_postgres() as postgres, Sink(lambda arrival: Answer(delay_s=0.05)) as sink:
        migrate(postgres.server.url)
        settings = settings.model_copy(update={"database_url": postgres.server.url, "database_max_conns": 10})
        async with open_shop(settings) as shop:
            for n in range(3):
                await shop.endpoint(sink.url(f"/{n}"))
            process = worker(settings, tmp_path / "worker.log")
            sent: set[str] = set()
            going = True

            async def producer() -> None:
                while going:
                    answers = await shop.accept(*(shop.event() for _ in range(10)))
                    sent.update(str(one.id) for one in answers if isinstance(one, Accepted))
                    await asyncio.sleep(0.02)

            producers = [asyncio.ensure_future(producer()) for _ in range(3)]
            try:
                for n in range(CRASHES):
                    await until(lambda n=n: len(sink.arrivals) > 1000 * (n + 1), 30, what="arrivals")
                    postgres.kill()
                    await asyncio.to_thread(postgres.start)
                before = len(sent)
                await until(lambda: len(sent) > before + 100, 30, what="accepted events after the crash")
                going = False
                await asyncio.gather(*producers)
                for n in range(3):
                    await until(lambda n=n: sent <= set(sink.events(f"/{n}")), 45, what="every arrival")
                async with await psycopg.AsyncConnection.connect(postgres.server.url, autocommit=True) as conn:
                    await until_true(conn, "SELECT NOT EXISTS (SELECT 1 FROM live)", 30)
                    rows = await conn.execute("SELECT DISTINCT state FROM history")
                    assert await rows.fetchall() == [("delivered",)]
            finally:
                going = False
                process.kill()
                print(process.text()[-6000:])
