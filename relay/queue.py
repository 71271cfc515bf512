"""The queues: hints on Redis that there is work. With `relay/broker.py` the one place that knows Dramatiq.

A message says "there is work with these ids". Losing it, doubling it or reordering it changes nothing but latency, so
producers enqueue by name and never wait long, and the clock repeats what nobody took up.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis
import redis.asyncio
from dramatiq import Message
from dramatiq.common import current_millis

from relay import metrics
from relay.redis_clients import Limits, asyncio_client

QUEUES = {
    "fan_out": "fanout",
    "deliver_high": "deliver.high",
    "deliver_normal": "deliver.normal",
    "deliver_low": "deliver.low",
    "lane": "lanes",
    "dead_letter": "dead",
    "housekeeping": "housekeeping",
}
"""Actor to queue. New names are shipped in workers before producers use them."""

#: Redis is away, hung or overfull: the hint is lost, the work is not.
UNREACHABLE = (redis.RedisError, OSError, TimeoutError)
#: How long a command may take: whoever waits for Redis has a way without it.
REDIS_TIMEOUT_S = 2.0
WAKE_CHANNEL = "relay:wake"
CLOCK = "clock"
_BELL = "relay:bell:"
_BELL_MS = 1000
_MUTED_MS = 5000
NAMESPACE = "dramatiq"
#: What Dramatiq keeps of a queue: its ids and messages, those that are delayed (DQ), and those that failed for good (XQ).
_PARTS = ("", ".msgs", ".DQ", ".DQ.msgs", ".XQ", ".XQ.msgs")

# KEYS: messages hash, queue list. ARGV: channel, queue, then id and data in turn. Repeating it pushes nothing twice.
_ENQUEUE = """
for i = 3, #ARGV, 2 do
  if redis.call('hsetnx', KEYS[1], ARGV[i], ARGV[i + 1]) == 1 then redis.call('rpush', KEYS[2], ARGV[i]) end
end
redis.call('publish', ARGV[1], ARGV[2])
"""
# KEYS: messages hash, queue list, then the bells. ARGV: channel, queue, id, data, milliseconds. All or nothing.
_RING = """
local silent = false
for i = 3, #KEYS do
  if redis.call('set', KEYS[i], '1', 'NX', 'PX', ARGV[5]) then silent = true end
end
if silent then
  redis.call('hset', KEYS[1], ARGV[3], ARGV[4])
  redis.call('rpush', KEYS[2], ARGV[3])
  redis.call('publish', ARGV[1], ARGV[2])
end
"""


@dataclass(frozen=True, slots=True)
class Hint:
    """One message: the actor's name and its keyword arguments (JSON)."""

    actor: str
    args: dict[str, Any]


class Queue:
    """The producers' side, on the event loop: enqueues by name, many with one command."""

    def __init__(self, redis_url: str, *, pool_size: int, timeout_s: float) -> None:
        """`timeout_s` bounds every command: whoever uses this can do without Redis for as long as that."""
        self._redis = asyncio_client(redis_url, Limits(pool_size, timeout_s=timeout_s))
        self._enqueue = self._redis.register_script(_ENQUEUE)
        self._ring = self._redis.register_script(_RING)

    @property
    def commands(self) -> redis.asyncio.Redis:
        """The connections, for who looks into the queues (`relay.messages`)."""
        return self._redis

    async def enqueue(self, hints: Sequence[Hint]) -> None:
        """Put the hints into their queues, one command a queue, and wake its consumers. Raises UNREACHABLE."""
        by_queue: dict[str, list[str | bytes]] = defaultdict(list)
        for hint in hints:
            queue, id, data = _message(hint)
            by_queue[queue] += (id, data)
        for queue, pairs in by_queue.items():
            with metrics.REDIS_SECONDS.labels("enqueue").time():
                await self._enqueue(keys=_keys(queue), args=[WAKE_CHANNEL, queue, *pairs])

    async def ring(self, shards: Sequence[int]) -> None:
        """Ask for a fan-out of these outbox shards, unless one is on its way for all of them. Raises UNREACHABLE."""
        queue, id, data = _message(Hint("fan_out", {"shards": sorted(shards)}))
        keys = [*_keys(queue), *(f"{_BELL}{shard}" for shard in shards)]
        with metrics.REDIS_SECONDS.labels("ring").time():
            await self._ring(keys=keys, args=[WAKE_CHANNEL, queue, id, data, _BELL_MS])

    async def silence(self, shards: Sequence[int]) -> None:
        """Let the bells of these shards ring again; a fan-out does this before it looks for the last time."""
        with metrics.REDIS_SECONDS.labels("silence").time():
            await self._redis.delete(*(f"{_BELL}{shard}" for shard in shards))

    async def mute(self, shards: Sequence[int]) -> None:
        """Let the bells of these shards be silent for 5 s: a fan-out failed, and would fail again at once."""
        pipe = self._redis.pipeline(transaction=False)
        for shard in shards:
            pipe.set(f"{_BELL}{shard}", "1", px=_MUTED_MS)
        await pipe.execute()

    async def wake_clock(self) -> None:
        """Tell the clocks that a lane is due."""
        with metrics.REDIS_SECONDS.labels("wake").time():
            await self._redis.publish(WAKE_CHANNEL, CLOCK)

    async def length(self, actor: str) -> int:
        """Messages that wait in the actor's queue."""
        return int(await self._redis.llen(f"{NAMESPACE}:{QUEUES[actor]}"))

    async def clear(self) -> int:
        """Throw away every message of Relay and its bells, and nothing else in that Redis; return how many waited."""
        waiting = sum([await self.length(actor) for actor in QUEUES])
        for queue in QUEUES.values():
            name = f"{NAMESPACE}:{queue}"
            await self._redis.unlink(*(f"{name}{part}" for part in _PARTS))
        for pattern in (f"{_BELL}*", *(f"{NAMESPACE}:__acks__.*.{queue}" for queue in QUEUES.values())):
            async for key in self._redis.scan_iter(match=pattern, count=1000):
                await self._redis.unlink(key)
        return waiting

    async def ping(self) -> None:
        """Raise UNREACHABLE unless Redis answers."""
        with metrics.REDIS_SECONDS.labels("ping").time():
            await self._redis.ping()

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()


def _keys(queue: str) -> list[str]:
    return [f"{NAMESPACE}:{queue}.msgs", f"{NAMESPACE}:{queue}"]


def _message(hint: Hint) -> tuple[str, str, bytes]:
    queue, id = QUEUES[hint.actor], str(uuid.uuid4())
    message = Message[Any](
        queue_name=queue,
        actor_name=hint.actor,
        args=(),
        kwargs=hint.args,
        options={"redis_message_id": id},
        message_id=id,
        message_timestamp=current_millis(),
    )
    return queue, id, message.encode()
