"""Redis only carries hints: hung, gone or emptied, it costs latency, never an event."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import redis

from relay.settings import Settings
from tests.running import until, worker
from tests.servers import OwnServer, own_valkey
from tests.shop import Shop, open_shop
from tests.sink import Answer, Sink

HUNG_S = 2.0
GONE_S = 2.0


async def test_redis_hung_gone_and_emptied_costs_no_event(settings: Settings, tmp_path: Path) -> None:
    with own_valkey() as valkey, Sink(lambda _: Answer(delay_s=0.03)) as sink:
        settings = settings.model_copy(update={"redis_url": valkey.server.url})
        async with open_shop(settings) as shop:
            for n in range(3):
                await shop.endpoint(sink.url(f"/{n}"))
            process = worker(settings, tmp_path / "worker.log")
            try:
                sent = await hung(shop, valkey, sink)
                sent |= await gone(shop, valkey)
                await until(lambda: set(sink.events()) == sent, 30, what="every arrival after Redis came back")
                await emptied(shop, valkey, sink)
            finally:
                process.kill()
                print(process.text()[-5000:])


async def latencies(shop: Shop, seconds: float) -> dict[str, float]:
    """Accept events from four clients at once; ids with the seconds each took."""
    took: dict[str, float] = {}
    end = time.monotonic() + seconds

    async def client() -> None:
        while (began := time.monotonic()) < end:
            (id,) = await shop.send(1)
            took[id] = time.monotonic() - began
            await asyncio.sleep(0.02)

    await asyncio.gather(*(client() for _ in range(4)))
    return took


def p99(took: dict[str, float]) -> float:
    return sorted(took.values())[int(len(took) * 0.99)]


async def hung(shop: Shop, valkey: OwnServer, sink: Sink) -> set[str]:
    normal = await latencies(shop, 1.5)
    await until(lambda: set(sink.events()) == set(normal), 20, what="the first arrivals")
    valkey.signal(signal.SIGSTOP)
    frozen = await latencies(shop, HUNG_S)
    valkey.signal(signal.SIGCONT)
    assert p99(frozen) <= 2 * p99(normal) + 0.05
    assert max(frozen.values()) < 1.0
    sent = {*normal, *frozen}
    await until(lambda: set(sink.events()) == sent, 20, what="the arrivals after the freeze")
    return sent


async def gone(shop: Shop, valkey: OwnServer) -> set[str]:
    valkey.kill()
    meanwhile = await latencies(shop, GONE_S)
    assert max(meanwhile.values()) < 1.0
    valkey.start()
    return set(meanwhile)


async def emptied(shop: Shop, valkey: OwnServer, sink: Sink) -> None:
    before = set(sink.events())
    sent = set(await shop.send(1000))
    client = redis.Redis.from_url(valkey.server.url)
    for share in (0.1, 0.4):
        expected = len(before) + share * 1000
        await until(lambda expected=expected: len(sink.events()) > expected, 20, what="some of 1000 arrivals")
        client.flushall()
    client.close()
    for n in range(3):
        await until(lambda n=n: sent <= set(sink.events(f"/{n}")), 30, what="every arrival after FLUSHALL")
