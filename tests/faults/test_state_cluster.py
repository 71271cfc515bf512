"""Counting on a real cluster of three nodes, one of which dies; and the queues, which are on no cluster."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from relay.db import Conn
from relay.delivery.counters import Counters, Tally
from relay.redis_modes import refuse_wrong_redis
from relay.settings import Settings, SettingsError
from tests.ledger import offenders
from tests.redis_servers import cluster, cluster_url, connected
from tests.running import CHECKOUT, environment, until, until_so, until_true, worker
from tests.servers import OwnServer
from tests.shop import Shop, open_shop
from tests.sink import Answer, Sink

BAD = 12
THRESHOLD = 3
OPEN = "SELECT count(*) = 12 FROM lanes WHERE gate_reason = 'circuit_open'"
RELAY_WORKER = [sys.executable, "-c", "import sys; from relay.cli.main import main; sys.exit(main(['worker']))"]
GUNICORN = [str(Path(sys.executable).parent / "gunicorn"), "--config", "deploy/gunicorn.conf.py", "api.app:app"]


async def test_circuits_open_by_what_a_cluster_counted_and_a_dead_node_stops_no_delivery(
    settings: Settings, conn: Conn, tmp_path: Path
) -> None:
    with cluster() as nodes, Sink(lambda one: Answer(status=500 if one.path.startswith("/bad") else 200)) as sink:
        await the_queues_are_refused(settings, nodes)
        await it_counts_as_one_server_does(settings.state_url, cluster_url(nodes))
        settings = settings.model_copy(update={"redis_state_url": cluster_url(nodes)})
        assert await asyncio.to_thread(refuse_wrong_redis, settings) == []
        async with open_shop(settings) as shop:
            await shop.endpoint(sink.url("/good"))
            process = worker(settings, tmp_path / "worker.log")
            try:
                await bad_endpoints(shop, sink, "/bad-")
                await until_true(conn, OPEN)
                assert all(connected(node.server.url).dbsize() for node in nodes)
                await one_node_dies(shop, conn, nodes, sink)
            finally:
                process.kill()
                print(process.text()[-10_000:])
            assert "Traceback" not in process.text()
            assert "a node of the cluster is away" in process.text()
            assert await offenders(shop.web.db) == {}


async def it_counts_as_one_server_does(one: str, many: str) -> None:
    epochs = [(uuid4(), number) for number in range(50)]
    server, nodes = Counters(one), Counters(many, connections=1)
    for succeeded in (False, True, False):
        tallies = {epoch: Tally(succeeded, epoch[1] % 7) for epoch in epochs}
        counted = await server.count(tallies)
        assert await nodes.count(tallies) == counted
        assert await nodes.read(epochs) == await server.read(epochs) == list(counted.values())
    await server.close()
    await nodes.close()


async def bad_endpoints(shop: Shop, sink: Sink, path: str) -> None:
    for n in range(BAD):
        await shop.endpoint(
            sink.url(f"{path}{n}"),
            circuit_threshold=THRESHOLD,
            circuit_reset_ms=300_000,
            retry_schedule=[200],
            max_retries=50,
        )
    sent = await shop.send(THRESHOLD)
    await until(lambda: set(sent) <= set(sink.events("/good")), what="arrivals at the good one")


async def one_node_dies(shop: Shop, conn: Conn, nodes: list[OwnServer], sink: Sink) -> None:
    """Those whose counts are on the nodes that live have their circuits opened; everything is delivered."""
    nodes[0].kill()
    opened = len(await (await conn.execute("SELECT 1 FROM lanes WHERE gate_reason = 'circuit_open'")).fetchall())
    await bad_endpoints(shop, sink, "/bad-later-")

    async def more_opened() -> bool:
        rows = await conn.execute("SELECT count(*) FROM lanes WHERE gate_reason = 'circuit_open'")
        row = await rows.fetchone()
        return row is not None and row[0] > opened + 1

    await until_so(more_opened)
    sent = await shop.send(20)
    await until(lambda: set(sent) <= set(sink.events("/good")), 10, what="arrivals beside a cluster with a hole")


async def the_queues_are_refused(settings: Settings, nodes: list[OwnServer]) -> None:
    """A plain URL that leads to a node is found out, by web and by worker, before anything starts."""
    node = nodes[1].server.url
    wrong = {
        "redis_url": "REDIS_URL: must lead to one server or to its sentinels, not to a cluster",
        "redis_state_url": "REDIS_STATE_URL: must start with redis+cluster://",
    }
    for name, sentence in wrong.items():
        with pytest.raises(SettingsError, match=f"^{re.escape(sentence)}"):
            await asyncio.to_thread(refuse_wrong_redis, settings.model_copy(update={name: node}))
    no_cluster = settings.redis_url.replace("redis", "redis+cluster", 1)
    with pytest.raises(SettingsError, match=r"^REDIS_STATE_URL: must not start with redis\+cluster://"):
        await asyncio.to_thread(refuse_wrong_redis, settings.model_copy(update={"redis_state_url": no_cluster}))
    given = environment(settings, REDIS_URL=node)
    for argv in (RELAY_WORKER, GUNICORN):
        done = await asyncio.to_thread(
            subprocess.run, argv, env=given, cwd=CHECKOUT, capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1, done.stderr
        assert wrong["redis_url"] in done.stderr
