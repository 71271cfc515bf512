"""Clients of Redis: every connection to it is made here, to one server, to the master that Sentinel names, or to a cluster.

No client repeats a command by itself: whoever sends one knows whether it may. A pool that is full makes its users wait,
for as long as a command may take. A connection to a master that is one no more is given up when it comes back to its pool.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel
from redis._parsers import AsyncCommandsParser
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry as AsyncioRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from relay.redis_urls import Kind, RedisUrl, parse

#: The share of a cluster's command that a node which does not answer may take: then the next one is asked.
_OF_A_NODE = 0.3
#: A sentinel that does not answer is passed over after this long, and not asked again: there are others.
_SENTINEL_S = 0.5


@dataclass(frozen=True, slots=True)
class Limits:
    """How many connections a client may hold, and how long each command, and connecting if that differs, may take."""

    connections: int
    timeout_s: float
    connect_timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class Shares:
    """REDIS_POOL_SIZE, shared out among the clients of one process so that it is never exceeded; at least 8."""

    pool_size: int

    @property
    def wake(self) -> int:
        """The subscription of a worker."""
        return 1

    @property
    def counters(self) -> int:
        """A worker's counters, which work one at a time."""
        return max(1, self.pool_size // 16)

    @property
    def queue(self) -> int:
        """A worker's producers."""
        return max(2, self.pool_size // 4)

    @property
    def broker(self) -> int:
        """A worker's consumers and threads: what is left."""
        return self.pool_size - self.wake - self.counters - self.queue - self.feed

    @property
    def feed(self) -> int:
        """What a worker writes the live view with."""
        return 1

    @property
    def web_counters(self) -> int:
        """A web process's counters, which are only read."""
        return self.pool_size // 4

    @property
    def web_queue(self) -> int:
        """A web process's producers."""
        return self.pool_size - self.web_counters - self.web_feed

    @property
    def web_feed(self) -> int:
        """What a web process reads the live view with: one that waits, and one for who joins."""
        return 2


def client(url: str, limits: Limits, *, decode_responses: bool = False) -> redis.Redis:
    """Make a client for threads. Connects at the first command."""
    found = parse(url)
    options: dict[str, Any] = {
        **_options(found, limits),
        "retry": Retry(NoBackoff(), 0),
        "decode_responses": decode_responses,
    }
    if found.kind is Kind.SENTINEL:
        sentinel = _Sentinel(found.hosts, sentinel_kwargs={**_sentinels(found), "retry": options["retry"]})
        return redis.Redis.from_pool(_MasterPool(found.service, sentinel, ssl=found.tls, **options))
    return redis.Redis.from_pool(redis.BlockingConnectionPool(connection_class=_class(redis, found), **options))


def asyncio_client(url: str | RedisUrl, limits: Limits) -> redis.asyncio.Redis:
    """Make a client for the event loop. Connects at the first command."""
    found = parse(url) if isinstance(url, str) else url
    options: dict[str, Any] = {**_options(found, limits), "retry": AsyncioRetry(NoBackoff(), 0)}
    if found.kind is Kind.SENTINEL:
        sentinel = _AsyncioSentinel(found.hosts, sentinel_kwargs={**_sentinels(found), "retry": options["retry"]})
        return redis.asyncio.Redis.from_pool(_AsyncioMasterPool(found.service, sentinel, ssl=found.tls, **options))
    pool = redis.asyncio.BlockingConnectionPool(connection_class=_class(redis.asyncio, found), **options)
    return redis.asyncio.Redis.from_pool(pool)


def asyncio_cluster(url: str, limits: Limits) -> RedisCluster:
    """Make a client of a cluster, for the event loop; `limits.connections` counts for each of its nodes."""
    found = parse(url)
    cluster = RedisCluster(
        startup_nodes=[ClusterNode(host, port) for host, port in found.hosts],
        max_connections=limits.connections,
        ssl=found.tls,
        require_full_coverage=False,
        retry=AsyncioRetry(NoBackoff(), 0),
        socket_timeout=limits.timeout_s * _OF_A_NODE,
        socket_connect_timeout=limits.timeout_s * _OF_A_NODE,
        **found.options,
    )
    cluster.commands_parser = _Commands(cluster)
    return cluster


class _Sentinel(redis.sentinel.Sentinel):
    def discover_master(self, service_name: str) -> Any:
        try:
            return super().discover_master(service_name)
        except redis.sentinel.MasterNotFoundError:
            raise redis.sentinel.MasterNotFoundError(_no_master(service_name)) from None


class _AsyncioSentinel(redis.asyncio.sentinel.Sentinel):
    async def discover_master(self, service_name: str) -> Any:
        try:
            return await super().discover_master(service_name)
        except redis.asyncio.sentinel.MasterNotFoundError:
            raise redis.asyncio.sentinel.MasterNotFoundError(_no_master(service_name)) from None


class _MasterPool(redis.sentinel.SentinelConnectionPool, redis.BlockingConnectionPool):
    def owns_connection(self, connection: Any) -> bool:
        """Ours even after a failover, but without its socket: the next user of it asks the sentinels."""
        if self.master_address != (connection.host, connection.port):
            connection.disconnect()
        return connection.pid == self.pid

    def close(self) -> None:
        super().close()
        self.sentinel_manager.close()


class _AsyncioMasterPool(redis.asyncio.sentinel.SentinelConnectionPool, redis.asyncio.BlockingConnectionPool):
    async def release(self, connection: Any) -> None:
        """Back into the pool, after a failover without its socket: the next user of it asks the sentinels."""
        if self.master_address != (connection.host, connection.port):
            await connection.disconnect()
        await super().release(connection)

    async def aclose(self) -> None:
        await super().aclose()
        await self.sentinel_manager.aclose()


class _Commands(AsyncCommandsParser):
    """Learns the commands from any node; redis-py asks the first one alone, and nothing works while that is away."""

    def __init__(self, cluster: RedisCluster) -> None:
        super().__init__()
        self._cluster = cluster

    async def initialize(self, node: ClusterNode | None = None) -> None:
        reason: Exception = redis.ConnectionError("there is no node")
        for one in self._cluster.get_primaries():
            try:
                return await super().initialize(one)
            except (redis.RedisError, OSError) as cause:
                reason = cause
        raise reason


def _no_master(service_name: str) -> str:
    return f"no sentinel knows a healthy master called {service_name}"


def _class(library: Any, found: RedisUrl) -> Any:
    if "path" in found.options:
        return library.UnixDomainSocketConnection
    return library.SSLConnection if found.tls else library.Connection


def _options(found: RedisUrl, limits: Limits) -> dict[str, Any]:
    """What a pool takes: for its connections, and how many there may be and how long one is waited for."""
    options = {**found.options, "max_connections": limits.connections, "timeout": limits.timeout_s}
    if found.kind is Kind.SERVER and found.hosts:
        options["host"], options["port"] = found.hosts[0]
    return {
        **options,
        "socket_timeout": limits.timeout_s,
        "socket_connect_timeout": limits.connect_timeout_s or limits.timeout_s,
    }


def _sentinels(found: RedisUrl) -> Mapping[str, Any]:
    """How to connect to the sentinels: with their own login, and the same certificates."""
    certificates = {name: value for name, value in found.options.items() if name.startswith("ssl_")}
    timeouts = {"socket_timeout": _SENTINEL_S, "socket_connect_timeout": _SENTINEL_S}
    return {**timeouts, **certificates, **found.of_sentinels, "ssl": found.tls}
