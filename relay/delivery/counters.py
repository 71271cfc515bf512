"""Failures in a row, counted in Redis for all processes together. They may be lost at any time: counting begins anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import redis.asyncio

from relay.delivery.gates import Epoch

_TIMEOUT_S = 1.0
_KEPT_S = 3600

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

    def __init__(self, redis_url: str) -> None:
        self._redis = redis.asyncio.Redis.from_url(
            redis_url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S, retry=None
        )
        self._count = self._redis.register_script(_COUNT)

    async def count(self, tallies: Mapping[Epoch, Tally]) -> dict[Epoch, int]:
        """Add these tallies with one command; return how many failures in a row there are now."""
        arguments = [part for tally in tallies.values() for part in (int(tally.succeeded), tally.failures)]
        counts = await self._count(keys=[_key(epoch) for epoch in tallies], args=[_KEPT_S, *arguments])
        return dict(zip(tallies, counts, strict=True))

    async def read(self, epochs: Sequence[Epoch]) -> list[int]:
        """The failures in a row of each, read with one command."""
        return [int(count or 0) for count in await self._redis.mget([_key(epoch) for epoch in epochs])]

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()


def _key(epoch: Epoch) -> str:
    return f"relay:breaker:{epoch[0]}:{epoch[1]}"
