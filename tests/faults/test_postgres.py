"""Postgres crashes under load: nothing that was accepted is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psycopg

from relay.intake.accept import Accepted
from relay.migrate import migrate
from relay.settings import Settings
from tests.running import until, until_true, worker
from tests.servers import own_postgres
from tests.shop import Shop, open_shop
from tests.sink import Answer, Sink

ENDPOINTS = 2


async def test_a_crash_of_postgres_under_load_loses_nothing(settings: Settings, tmp_path: Path) -> None:
    with own_postgres() as postgres, Sink(lambda _: Answer(delay_s=0.02)) as sink:
        migrate(postgres.server.url)
        settings = settings.model_copy(update={"database_url": postgres.server.url})
        async with open_shop(settings) as shop:
            for n in range(ENDPOINTS):
                await shop.endpoint(sink.url(f"/{n}"))
            process = worker(settings, tmp_path / "worker.log")
            load = Load(shop)
            try:
                await until(lambda: len(sink.arrivals) > 500, 30, what="arrivals")
                postgres.kill()
                await asyncio.to_thread(postgres.start)
                before = len(load.accepted)
                await until(lambda: len(load.accepted) > before + 100, 30, what="accepted events after the crash")
                sent = await load.stop()
                for n in range(ENDPOINTS):
                    await until(lambda n=n: sent <= set(sink.events(f"/{n}")), 45, what="every arrival")
                async with await psycopg.AsyncConnection.connect(postgres.server.url, autocommit=True) as conn:
                    await until_true(conn, "SELECT NOT EXISTS (SELECT 1 FROM live)", 30)
                    rows = await conn.execute("SELECT DISTINCT state FROM history")
                    assert await rows.fetchall() == [("delivered",)]
            finally:
                await load.stop()
                process.kill()
                print(process.text()[-6000:])


class Load:
    """Two clients that go on sending until stopped."""

    def __init__(self, shop: Shop, *, at_once: int = 5) -> None:
        self.accepted: set[str] = set()
        self._at_once = at_once
        self._shop = shop
        self._going = True
        self._tasks = [asyncio.ensure_future(self._send()) for _ in range(2)]

    async def stop(self) -> set[str]:
        """Stop, and return the ids of what was accepted."""
        self._going = False
        await asyncio.gather(*self._tasks)
        return self.accepted

    async def _send(self) -> None:
        while self._going:
            answers = await self._shop.accept(*(self._shop.event() for _ in range(self._at_once)))
            self.accepted.update(str(one.id) for one in answers if isinstance(one, Accepted))
            await asyncio.sleep(0.02)
