"""Redis behind TLS with a user and a password: the right authority works everywhere, a wrong one is told of."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import redis

from relay.db import Conn
from relay.delivery.counters import Counters, Tally
from relay.queue import Hint, Queue
from relay.redis_clients import Limits, asyncio_client, client
from relay.redis_modes import refuse_wrong_redis
from relay.settings import Settings
from tests.redis_servers import IN_URL, PASSWORD, Tls, behind_tls, connected
from tests.running import until, until_true, worker
from tests.shop import open_shop
from tests.sink import Answer, Sink

pytestmark = pytest.mark.system
LIMITS = Limits(2, timeout_s=5.0)
UNTRUSTED = "certificate verify failed"
OPEN = "SELECT EXISTS (SELECT 1 FROM lanes WHERE gate_reason = 'circuit_open')"


@pytest.fixture(scope="module")
def tls() -> Iterator[Tls]:
    with behind_tls() as running:
        yield running


async def test_deliveries_and_circuits_work_behind_tls(
    settings: Settings, conn: Conn, tls: Tls, tmp_path: Path
) -> None:
    settings = settings.model_copy(update={"redis_url": tls.url})
    assert await asyncio.to_thread(refuse_wrong_redis, settings) == []
    with Sink(lambda one: Answer(status=500 if one.path == "/bad" else 200)) as sink:
        async with open_shop(settings) as shop:
            await shop.endpoint(sink.url("/good"))
            await shop.endpoint(sink.url("/bad"), circuit_threshold=2, retry_schedule=[100], max_retries=50)
            process = worker(settings, tmp_path / "worker.log")
            try:
                sent = await shop.send(5)
                await until(lambda: set(sent) <= set(sink.events("/good")), what="arrivals")
                await until_true(conn, OPEN)
                assert any(one["sub"] == "1" for one in connected(tls.url).client_list())
                began = time.monotonic()
                (last,) = await shop.send(1)
                await until(lambda: last in sink.events("/good"), what="one more")
                assert time.monotonic() - began < 2
            finally:
                process.kill()
                print(process.text())
    for secret in (PASSWORD, IN_URL):
        assert secret not in process.text()


async def test_a_sentinel_behind_tls_names_the_master(tls: Tls) -> None:
    with client(tls.sentinel_url, LIMITS) as by_threads:
        assert by_threads.ping()
    on_loop = asyncio_client(tls.sentinel_url, LIMITS)
    await on_loop.ping()
    await on_loop.aclose()


async def test_a_server_that_another_authority_vouches_for_is_refused(settings: Settings, tls: Tls) -> None:
    with client(tls.wrong_url, LIMITS) as by_threads, pytest.raises(redis.ConnectionError, match=UNTRUSTED):
        by_threads.ping()
    queue, counters = Queue(tls.wrong_url, pool_size=2, timeout_s=5.0), Counters(tls.wrong_url)
    with pytest.raises(redis.ConnectionError, match=UNTRUSTED):
        await queue.enqueue([Hint("fan_out", {"shards": []})])
    with pytest.raises(redis.ConnectionError, match=UNTRUSTED):
        await counters.count({(uuid4(), 0): Tally(failures=1)})
    await queue.close()
    await counters.close()
    (sentence,) = await asyncio.to_thread(refuse_wrong_redis, settings.model_copy(update={"redis_url": tls.wrong_url}))
    assert sentence.startswith("REDIS_URL: no answer from 127.0.0.1:")
    assert UNTRUSTED in sentence
