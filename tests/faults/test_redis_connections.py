"""REDIS_POOL_SIZE is what a process holds at most, whatever it has to do."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from uuid import uuid4

from relay.redis_clients import Shares
from relay.runtime import Web
from relay.settings import Settings
from tests.redis_servers import connected
from tests.running import until, worker
from tests.shop import open_shop
from tests.sink import Answer, Sink

POOL = 12
PASSWORD = "of-both"
EVENTS = 600
ENDPOINTS = 8


async def test_a_worker_and_a_web_process_under_load_keep_to_their_pools(settings: Settings, tmp_path: Path) -> None:
    """Each logs in as a user of its own, by which the server tells their connections apart."""
    looking = connected(settings.redis_url)
    for user in ("web", "worker"):
        looking.acl_setuser(
            user, enabled=True, passwords=[f"+{PASSWORD}"], keys=["*"], channels=["relay:wake"], commands=["+@all"]
        )
    place = settings.redis_url.rpartition("@")[2]
    own = {
        user: settings.model_copy(
            update={
                "redis_url": f"redis://{user}:{PASSWORD}@{place}",
                "redis_pool_size": POOL,
                "database_max_conns": 10,
            }
        )
        for user in ("web", "worker")
    }
    most: Counter[str] = Counter()

    def look() -> None:
        for user, count in Counter(one["user"] for one in looking.client_list()).items():
            most[user] = max(most[user], count)

    with Sink(lambda one: Answer(status=500 if one.path == "/0" else 200)) as sink:
        async with open_shop(own["web"]) as shop:
            for n in range(ENDPOINTS):
                await shop.endpoint(sink.url(f"/{n}"))
            process = worker(own["worker"], tmp_path / "worker.log")
            try:
                sending = asyncio.create_task(shop.send(EVENTS, at_once=20))
                while not sending.done():
                    await ask(shop.web)
                    look()
                await until(lambda: look() or len(sink.events("/1")) == EVENTS, 60, what="every arrival")
            finally:
                process.kill()
                print(process.text()[-5000:])
    looking.acl_deluser("web", "worker")
    print(most)
    assert most["web"] == POOL - Shares(POOL).web_feed  # nobody watches
    assert POOL // 2 < most["worker"] <= POOL
    assert "Too many connections" not in process.text()
    assert "No connection available" not in process.text()


async def ask(web: Web) -> None:
    """More at once than the process may have connections."""
    reads = [web.counters.read([(uuid4(), 0)]) for _ in range(POOL)]
    await asyncio.gather(*reads, *(web.queue.ping() for _ in range(2 * POOL)))
