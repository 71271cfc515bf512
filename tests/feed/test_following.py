"""Those who stay: `relay logs -f` over a web process that is killed, and what a silent stream says meanwhile."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from falcon.asgi import Request
from psycopg import AsyncConnection

from api import auth
from api.auth import Caller, Keys
from api.connections import App
from api.stream import StreamResource
from relay.db import Database
from relay.feed.hub import Hub
from relay.feed.publisher import Publisher
from relay.settings import Settings
from relay.tenancy import api_keys
from tests.e2e.client import Client
from tests.feed.conftest import key_of, outcome, watch
from tests.running import Running, environment, until
from tests.test_log import answers

Connection = AsyncConnection[Any]


def ids(logs: Running) -> list[str]:
    """The deliveries that were shown, in order."""
    whole = [text for text in logs.text().splitlines(keepends=True) if text.startswith("{") and text.endswith("}\n")]
    return [json.loads(text)["delivery_id"] for text in whole]


async def test_who_follows_the_logs_sees_each_line_once_though_the_web_process_is_killed(
    server: Running, locked: Settings, url: str, conn: Connection, tmp_path: Path
) -> None:
    await until(lambda: answers(Client(url)), what="a start")
    tenant_id, key = await key_of(conn, locked, "a")
    worker, sent = Publisher(locked.redis_url), list[str]()

    async def on_and_on() -> None:
        while True:
            batch = [outcome(tenant_id) for _ in range(5)]
            sent.extend(str(one.delivery.id) for one in batch)
            worker.hear(batch)
            await asyncio.sleep(0.01)

    command = "from relay.cli.main import main; main()"
    argv = [sys.executable, "-c", command, "logs", "-f", "--json", "--url", url, "--key", key]
    logs = Running(argv, environment(locked), tmp_path / "logs")
    try:
        await until(lambda: "Watching" in logs.text(), what="a first look")
        working = asyncio.create_task(on_and_on())
        await until(lambda: len(ids(logs)) >= 100, what="lines before")
        server.kill()
        seen = len(ids(logs))
        server.start()
        await until(lambda: len(ids(logs)) >= seen + 100, what="lines after")
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working
        await until(lambda: len(ids(logs)) >= len(sent), what="the rest")
        assert ids(logs) == sent
        assert "missing" not in logs.text()
        logs.signal(signal.SIGINT)
        assert logs.process.wait(10) == 0
    finally:
        logs.kill()
        await worker.close()
    assert server.stop() == 0


class Counted(Keys):
    """Those who may come in, counted as a rate limit counts them."""

    count = 0

    async def caller(self, req: Request) -> Caller:
        self.count += 1
        return await super().caller(req)


@asynccontextmanager
async def streams(settings: Settings, *, heartbeat_s: float) -> AsyncIterator[Counted]:
    """A server in this process with the live view alone, and a heart that beats faster."""
    hub, db = Hub(settings.redis_url, connections=2, heartbeat_s=heartbeat_s), Database(settings)
    app, callers = App(), Counted(db)
    app.add_route("/logs/stream", StreamResource(hub, callers=callers, keys=Keys(db)))
    server = uvicorn.Server(uvicorn.Config(app, port=settings.port, lifespan="off", log_config=None))
    await db.open()
    serving = asyncio.create_task(server.serve())
    await until(lambda: server.started, what="a start")
    try:
        yield callers
    finally:
        hub.end()
        server.should_exit = True
        await serving
        await hub.close()
        await db.close()


async def test_a_silent_stream_beats_and_ends_when_its_key_is_revoked(
    locked: Settings, url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "_LIFETIME_S", 0.0)  # keys are looked up at each beat
    tenant_id, key = await key_of(conn, locked, "a")
    async with streams(locked, heartbeat_s=0.1) as callers:
        with await asyncio.to_thread(watch, url, key) as watcher:
            await until(lambda: watcher.read(0.01).heartbeats >= 3, what="beats")
            assert watcher.last_id is not None
            assert (watcher.lines, watcher.gaps, watcher.ended) == ([], 0, False)
            (record,) = (await api_keys.list_(conn, tenant_id, first=1)).items
            await api_keys.revoke(conn, tenant_id, record.id)
            await until(lambda: watcher.read(0.01).ended, what="the end")
    assert callers.count == 1  # to stay costs nothing of a rate limit
