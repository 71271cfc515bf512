"""Failures in a row, counted in Redis for all processes together. They may be lost at any time: counting begins anew."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import RedisClusterException

from relay.delivery.gates import Epoch
from relay.redis_clients import Limits, asyncio_client, asyncio_cluster
from relay.redis_urls import Kind, parse

_TIMEOUT_S = 1.0
_KEPT_S = 3600
_TELL_S = 60.0
_LOG = logging.getLogger(__name__)

# KEYS: one a tally. ARGV: seconds to keep, then for each whether it holds a success, and its failures since.
_COUNT = """
local counts = {}
for i, key in ipairs(KEYS) do
  local failures = tonumber(ARGV[2 * i + 1])
  if ARGV[2 * i] == '1' then redis.call('del', key) end
  if failures > 0 then
    failures = redis.call('incrby', key, failures)
    redis.call('expire', key, ARGV[1])
  end
  counts[i] = failures
end
return counts
"""


@dataclass(slots=True)
class Tally:
    """What became of an endpoint's attempts: whether one succeeded, and how many failed since."""

    succeeded: bool = False
    failures: int = 0

    def succeed(self) -> None:
        """Take in a success: what failed before counts no more."""
        self.succeeded, self.failures = True, 0

    def fail(self) -> None:
        """Take in a failure."""
        self.failures += 1


class Counters:
    """The counters, on the event loop; every command takes a second at most, and raises `relay.queue.UNREACHABLE`."""

    def __init__(self, redis_url: str, *, connections: int = 4) -> None:
        """`connections` there are at most, in a cluster to each of its nodes."""
        limits = Limits(connections, timeout_s=_TIMEOUT_S)
        self._store = (
            _Cluster(redis_url, limits) if parse(redis_url).kind is Kind.CLUSTER else _Server(redis_url, limits)
        )

    async def count(self, tallies: Mapping[Epoch, Tally]) -> dict[Epoch, int]:
        """Add these tallies with one command; return how many failures in a row there are now.

        In a cluster it is one command a node; what a node that is away should have counted is left out of the answer.
        """
        counts = await self._store.count([(_key(epoch), tally) for epoch, tally in tallies.items()])
        return {epoch: count for epoch, count in zip(tallies, counts, strict=True) if count is not None}

    async def read(self, epochs: Sequence[Epoch]) -> list[int]:
        """The failures in a row of each, read with one command, in a cluster with one a node."""
        return [int(count or 0) for count in await self._store.read([_key(epoch) for epoch in epochs])]

    async def close(self) -> None:
        """Close the connections."""
        await self._store.close()


class _Server:
    """Counts with one command, whatever it is that changed."""

    def __init__(self, url: str, limits: Limits) -> None:
        self._redis = asyncio_client(url, limits)
        self._script = self._redis.register_script(_COUNT)

    async def count(self, tallies: Sequence[tuple[str, Tally]]) -> list[int | None]:
        arguments = [part for _, tally in tallies for part in _arguments(tally)]
        return await self._script(keys=[key for key, _ in tallies], args=[_KEPT_S, *arguments])

    async def read(self, keys: Sequence[str]) -> Sequence[bytes | str | None]:
        return await self._redis.mget(keys)

    async def close(self) -> None:
        await self._redis.aclose()


class _Cluster:
    """Counts with one pipeline a node: a command of a cluster may only touch keys of one slot."""

    def __init__(self, url: str, limits: Limits) -> None:
        self._redis = asyncio_cluster(url, limits)
        self._tell_at = 0.0

    async def count(self, tallies: Sequence[tuple[str, Tally]]) -> list[int | None]:
        answers = await self._execute(
            [(key, ("EVAL", _COUNT, "1", key, str(_KEPT_S), *map(str, _arguments(tally)))) for key, tally in tallies]
        )
        return [None if isinstance(answer, Exception) else answer[0] for answer in answers]

    async def read(self, keys: Sequence[str]) -> Sequence[bytes | None]:
        answers = await self._execute([(key, ("GET", key)) for key in keys])
        return [None if isinstance(answer, Exception) else answer for answer in answers]

    async def _execute(self, commands: Sequence[tuple[str, tuple[str, ...]]]) -> list[Any]:
        """The answers to commands, each beside its key, or what went wrong; raises where all went wrong.

        After anything went wrong the nodes are looked up anew: another may have taken over.
        """
        places: defaultdict[str, list[int]] = defaultdict(list)
        answers: list[Any] = [None] * len(commands)
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await self._redis.initialize()
                for place, (key, _) in enumerate(commands):
                    places[_node(self._redis, key)].append(place)
                parts = await asyncio.gather(
                    *(self._send([commands[place][1] for place in part]) for part in places.values())
                )
        except RedisClusterException as cause:
            raise redis.ConnectionError(str(cause)) from cause
        for part, answered in zip(places.values(), parts, strict=True):
            for place, answer in zip(part, answered, strict=True):
                answers[place] = answer
        lost = [answer for answer in answers if isinstance(answer, Exception)]
        if lost:
            await self._redis.aclose()
        if len(lost) == len(answers) > 0:
            raise lost[0]
        if lost and (now := time.monotonic()) >= self._tell_at:
            self._tell_at = now + _TELL_S
            _LOG.warning("failures of some endpoints are not counted, a node of the cluster is away: %s", lost[0])
        return answers

    async def _send(self, commands: Sequence[tuple[str, ...]]) -> Sequence[Any]:
        pipeline = self._redis.pipeline()
        for command in commands:
            pipeline.execute_command(*command)
        try:
            return await pipeline.execute(raise_on_error=False)
        except (redis.RedisError, RedisClusterException, OSError, TimeoutError) as cause:
            return [redis.ConnectionError(str(cause))] * len(commands)

    async def close(self) -> None:
        await self._redis.aclose()


def _node(client: RedisCluster, key: str) -> str:
    node = client.get_node_from_key(key)
    return node.name if node else ""


def _arguments(tally: Tally) -> tuple[int, int]:
    return int(tally.succeeded), tally.failures


def _key(epoch: Epoch) -> str:
    return f"relay:breaker:{epoch[0]}:{epoch[1]}"
