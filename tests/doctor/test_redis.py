"""Redis as the doctor finds it: real servers that evict, have no limit, cannot save, or stand alone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
import redis

from relay.doctor import redis as checks
from relay.doctor.given import Given
from relay.doctor.redis import Instance
from relay.doctor.verdict import Finding
from relay.settings import Settings
from tests.doctor.asking import ask, fails, passes, warns
from tests.doctor.waiting import until
from tests.servers import own_valkey

AWAY = "redis://:hunter2@127.0.0.1:1/0"


@pytest.fixture(scope="module")
def primary() -> Iterator[str]:
    with own_valkey() as server:
        yield server.server.url


@pytest.fixture
def client(primary: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(primary, decode_responses=True) as client:
        yield client


@pytest.fixture
def given(settings: Settings, primary: str) -> Settings:
    return settings.model_copy(update={"redis_url": primary})


async def test_a_server_that_evicts_or_has_no_limit_fails(given: Settings, client: redis.Redis) -> None:
    client.config_set("maxmemory", "512mb")
    found = await ask(given, "redis")
    for check in ("redis", "redis-state", "redis-eviction", "redis-persistence"):
        passes(found, check)
    passes(found, "redis-memory-limit", saying="of 512 MiB")
    client.config_set("maxmemory-policy", "allkeys-lru")
    client.config_set("maxmemory", "0")
    client.config_set("appendonly", "no")
    found = await ask(given, "redis")
    fails(found, "redis-eviction", saying="allkeys-lru")
    fails(found, "redis-memory-limit", saying="not set")
    warns(found, "redis-persistence", saying="nothing is lost")
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", "1200kb")
    warns(await ask(given, "redis"), "redis-memory-limit")


async def test_a_server_that_does_not_answer_fails_every_check(settings: Settings) -> None:
    found = await ask(settings.model_copy(update={"redis_url": AWAY, "redis_state_url": AWAY}), "redis")
    fails(found, "redis", saying="not seen: Redis does not answer")
    fails(found, "redis-eviction")
    fails(found, "redis-state")
    assert "hunter2" not in str(found)


async def test_a_server_that_cannot_save_fails(settings: Settings) -> None:
    with own_valkey() as server, redis.Redis.from_url(server.server.url, decode_responses=True) as client:
        shutil.rmtree(server.server.command.cwd)
        client.bgsave()
        until(lambda: checks_info(client)["rdb_last_bgsave_status"] == "err")
        found = await ask(settings.model_copy(update={"redis_url": server.server.url}), "redis")
        fails(found, "redis-persistence", saying="rdb_last_bgsave_status")
        server.server.command.cwd.mkdir()


def checks_info(client: redis.Redis) -> dict[str, str]:
    """What a server says of its saving."""
    return client.info("persistence")


async def test_a_server_with_nobody_to_take_over_fails(given: Settings, client: redis.Redis, primary: str) -> None:
    fails(await ask(given, "redis"), "redis-replica", saying="no replica")
    address = redis.Redis.from_url(primary).connection_pool.connection_kwargs
    with own_valkey() as follower, redis.Redis.from_url(follower.server.url, decode_responses=True) as replica:
        client.config_set("repl-diskless-sync-delay", "0")
        replica.config_set("masterauth", address["password"])
        replica.replicaof("127.0.0.1", str(address["port"]))
        until(lambda: replica.info("replication")["master_link_status"] == "up")
        warns(await ask(given, "redis"), "redis-replica", saying="names one host")
        seen = await checks.info(primary)
        sentinels = Given(given.model_copy(update={"redis_url": "redis+sentinel://one,two/relay/0"}))
        passes([Finding("redis", "redis-replica", checks.availability(Instance(seen, sentinels)))], "redis-replica")
        fails(
            await ask(given.model_copy(update={"redis_url": follower.server.url}), "redis"), "redis", saying="a replica"
        )
