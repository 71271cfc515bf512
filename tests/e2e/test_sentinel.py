"""Redis behind Sentinel: its master dies, or goes silent, and deliveries go on through the next one within seconds."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import pytest

from relay import messages
from relay.queue import QUEUES
from relay.redis_modes import refuse_wrong_redis
from relay.settings import Settings, SettingsError
from tests.ledger import offenders
from tests.redis_servers import IN_URL, Sentinels, sentinels
from tests.running import until, worker
from tests.shop import Shop, open_shop
from tests.sink import Sink

RECOVERY_S = 15.0
PROMPT_S = 2.0


async def test_a_master_that_dies_or_goes_silent_costs_seconds_and_no_event(settings: Settings, tmp_path: Path) -> None:
    with sentinels() as redis, Sink() as sink:
        mistaken = settings.model_copy(update={"redis_url": redis.sentinels[0].server.url})
        with pytest.raises(
            SettingsError, match=r"^REDIS_URL: must be redis\+sentinel://.*, for a sentinel answers there"
        ):
            await asyncio.to_thread(refuse_wrong_redis, mistaken)
        settings = settings.model_copy(update={"redis_url": redis.url})
        assert await asyncio.to_thread(refuse_wrong_redis, settings) == []
        async with open_shop(settings) as shop:
            await shop.endpoint(sink.url())
            process = worker(settings, tmp_path / "worker.log")
            try:
                sent = await shop.send(20)
                await until(lambda: set(sink.events()) == set(sent), what="the first arrivals")
                sent += await after_a_kill(redis, shop, sink)
                sent += await after_a_silence(redis, shop, sink)
                await until(lambda: "no answer" in process.text(), what="a subscription that noticed the silence")
            finally:
                process.kill()
                print(process.text()[-10_000:])
            assert set(sink.events()) == set(sent)
            assert {one.queue for one in await messages.depths(shop.web.queue.commands)} == set(QUEUES.values())
            assert await offenders(shop.web.db) == {}
    for secret in (IN_URL, "p@ss", "of the sentinels", "of%20the"):
        assert secret not in process.text()


async def after_a_kill(redis: Sentinels, shop: Shop, sink: Sink) -> list[str]:
    (old := redis.master()).kill()
    sent = await recovered(shop, sink)
    assert redis.master() is not old
    return sent


async def after_a_silence(redis: Sentinels, shop: Shop, sink: Sink) -> list[str]:
    """The next one hangs, as a lost machine does: nothing is refused, and nobody answers."""
    (old := redis.master()).signal(signal.SIGSTOP)
    sent = await recovered(shop, sink)
    assert redis.master() is not old
    return sent


async def recovered(shop: Shop, sink: Sink) -> list[str]:
    """Send once in a while until an event arrives as promptly as ever; return what was sent meanwhile."""
    sent: list[str] = []
    began = time.monotonic()
    while True:
        (event,) = await shop.send(1)
        sent.append(event)
        accepted = time.monotonic()
        await until(lambda event=event: event in sink.events(), RECOVERY_S, what="an arrival")
        if time.monotonic() - accepted < PROMPT_S and len(sent) > 1:
            break
    print(f"recovered after {time.monotonic() - began:.1f} s, {len(sent)} events")
    assert time.monotonic() - began < RECOVERY_S
    await until(lambda: set(sent) <= set(sink.events()), what="every arrival")
    return sent
