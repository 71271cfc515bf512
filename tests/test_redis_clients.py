"""Clients of Redis keep to their share of connections, wait for one instead of failing, and leave none open."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from relay.redis_clients import Limits, Shares, asyncio_client, client
from relay.redis_modes import refuse_wrong_redis
from relay.settings import Settings, SettingsError
from tests.redis_servers import connected

AT_ONCE = 20
FEW = Limits(3, timeout_s=5.0)


def named(url: str, name: str) -> str:
    return f"{url}?client_name={name}"


def count(url: str, name: str) -> int:
    with connected(url) as looking:
        return sum(one["name"] == name for one in looking.client_list())


@given(st.integers(8, 10_000))
def test_the_shares_of_a_process_are_together_its_pool(size: int) -> None:
    shares = Shares(size)
    assert shares.wake + shares.counters + shares.queue + shares.broker + shares.feed == size
    assert shares.web_queue + shares.web_counters + shares.web_feed == size
    assert min(shares.broker, shares.queue, shares.counters, shares.web_counters) >= 1


async def test_many_commands_at_once_share_few_connections(redis_url: str) -> None:
    limited = asyncio_client(named(redis_url, "loop"), FEW)
    await asyncio.gather(*(limited.eval("return redis.call('time')", 0) for _ in range(AT_ONCE)))
    assert count(redis_url, "loop") == FEW.connections
    await limited.aclose()
    assert count(redis_url, "loop") == 0


def test_many_threads_share_few_connections(redis_url: str) -> None:
    with client(named(redis_url, "threads"), FEW) as limited:
        done: list[object] = []
        threads = [threading.Thread(target=lambda: done.append(limited.ping())) for _ in range(AT_ONCE)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert done == [True] * AT_ONCE
        assert 1 <= count(redis_url, "threads") <= FEW.connections
    assert count(redis_url, "threads") == 0


async def test_whoever_waits_too_long_for_a_connection_hears_of_it(redis_url: str) -> None:
    limited = asyncio_client(redis_url, Limits(1, timeout_s=0.2))
    held = limited.pubsub()
    await held.subscribe("channel")
    with pytest.raises(redis.ConnectionError, match="No connection available"):
        await limited.ping()
    await held.aclose()
    await limited.ping()
    await limited.aclose()


async def test_without_any_sentinel_the_error_comes_at_once_in_one_line_without_secrets() -> None:
    url = "redis+sentinel://:secret@127.0.0.1:1,127.0.0.1:2/0?service=m&sentinel_password=hidden"
    limits, began = Limits(2, timeout_s=1.0), time.monotonic()
    with client(url, limits) as away, pytest.raises(redis.ConnectionError, match="^no sentinel knows") as caught:
        away.ping()
    on_loop = asyncio_client(url, limits)
    with pytest.raises(redis.ConnectionError, match="^no sentinel knows"):
        await on_loop.ping()
    await on_loop.aclose()
    assert time.monotonic() - began < 2 * limits.timeout_s
    shown = f"{caught.value}{away!r}{on_loop!r}"
    assert "secret" not in shown
    assert "hidden" not in shown


def test_redis_that_is_away_stops_no_start(settings: Settings) -> None:
    assert refuse_wrong_redis(settings) == []
    away = settings.model_copy(update={"redis_url": "redis://:secret@127.0.0.1:1/0"})
    (sentence,) = refuse_wrong_redis(away)
    assert sentence.startswith("REDIS_URL: no answer from 127.0.0.1:1 yet (")
    assert "secret" not in sentence


def test_a_certificate_that_cannot_be_read_stops_the_start(settings: Settings) -> None:
    wrong = settings.model_copy(update={"redis_state_url": "rediss://127.0.0.1:1?ssl_ca_certs=/nowhere/ca.pem"})
    with pytest.raises(SettingsError, match="^REDIS_STATE_URL: ssl_ca_certs names /nowhere/ca.pem, which cannot be"):
        refuse_wrong_redis(wrong)
