"""More than one Redis: queues and counters apart, or a group of workers each; any may die, and no event dies with it."""

from __future__ import annotations

from pathlib import Path

from relay.db import Conn
from relay.settings import Settings
from tests.ledger import offenders
from tests.running import Running, until, until_true, worker
from tests.servers import OwnServer, own_valkey
from tests.shop import Shop, open_shop
from tests.sink import Answer, Sink

BAD = {"circuit_threshold": 3, "circuit_reset_ms": 300_000, "retry_schedule": [200], "max_retries": 100}


async def test_either_server_dies_and_no_event_is_lost(settings: Settings, conn: Conn, tmp_path: Path) -> None:
    with (
        own_valkey() as queues,
        own_valkey() as counts,
        Sink(lambda one: Answer(status=500 if "bad" in one.path else 200)) as sink,
    ):
        settings = settings.model_copy(
            update={"redis_url": queues.server.url, "redis_state_url": counts.server.url.replace("/0", "/5")}
        )
        async with open_shop(settings) as shop:
            await shop.endpoint(sink.url("/good"))
            process = worker(settings, tmp_path / "worker.log")
            try:
                sent = await without_counts(shop, conn, sink, counts)
                sent += await without_queues(shop, sink, queues, process)
                process.kill()
                sent += await beside_another_group(shop, sink, counts, tmp_path)
            finally:
                process.kill()
                print(process.text()[-10_000:])
            assert set(sink.events("/good")) == set(sent)
            assert await offenders(shop.web.db) == {}


async def without_counts(shop: Shop, conn: Conn, sink: Sink, counts: OwnServer) -> list[str]:
    """No circuit opens while the counters are away, and deliveries go on; then the failures count again."""
    counts.kill()
    await shop.endpoint(sink.url("/bad"), **BAD)
    sent = await shop.send(5)
    await until(lambda: set(sent) <= set(sink.events("/good")), 10, what="arrivals without counters")
    await until(lambda: len(sink.events("/bad")) == 5 and sink.by_path()["/bad"] > 15, what="attempts at the bad one")
    assert await (await conn.execute("SELECT 1 FROM lanes WHERE gate_reason IS NOT NULL")).fetchall() == []
    counts.start()
    await until_true(conn, "SELECT count(*) = 1 FROM lanes WHERE gate_reason = 'circuit_open'")
    return sent


async def without_queues(shop: Shop, sink: Sink, queues: OwnServer, process: Running) -> list[str]:
    """Events are accepted while the queues are away, and delivered when they are back, empty as they may be."""
    queues.kill()
    await until(lambda: "Redis is away" in process.text(), what="a worker that noticed")
    sent = await shop.send(50)
    queues.start()
    await until(lambda: set(sent) <= set(sink.events("/good")), 20, what="arrivals after the queues came back")
    return sent


async def beside_another_group(shop: Shop, sink: Sink, other: OwnServer, tmp_path: Path) -> list[str]:
    """Workers with another Redis on the same Postgres send what is accepted beside the first, whose workers are gone."""
    group = worker(shop.web.settings.model_copy(update={"redis_url": other.server.url}), tmp_path / "group.log")
    try:
        sent = await shop.send(20)
        await until(lambda: set(sent) <= set(sink.events("/good")), 20, what="arrivals through the other group")
    finally:
        group.kill()
    return sent
