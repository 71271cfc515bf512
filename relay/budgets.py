"""How many requests a second may be made, over all web processes: each borrows from a count in Redis, a piece at a time.

A budget is so many requests in each second of Redis's clock. A process takes a piece of it (a fiftieth, then twice as much
each time, a tenth at most), spends it without asking, and forgets what is left when the second ends. What is used up is
remembered until then, so a refusal asks nobody. While Redis is away each process keeps the limit alone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass

from redis.asyncio import Redis

from relay.errors import Throttled
from relay.queue import UNREACHABLE

_SMALLEST, _LARGEST = 50, 10
_LEASE_S = 0.1
_ALONE_S = 1.0
_KEPT = 10_000
_TELL_S = 60.0
_LOG = logging.getLogger(__name__)

# KEYS: the budget. ARGV: how many are wanted, and the limit. Returns those granted, those used by all, and the
# microseconds that are left of this second.
_BORROW = """
local t = redis.call('time')
local kept = redis.call('hmget', KEYS[1], 'second', 'used')
local used = kept[1] == t[1] and tonumber(kept[2]) or 0
local granted = math.max(0, math.min(tonumber(ARGV[1]), tonumber(ARGV[2]) - used))
if granted > 0 then
  redis.call('hset', KEYS[1], 'second', t[1], 'used', used + granted)
  redis.call('expire', KEYS[1], 10)
end
return {granted, used + granted, 1000000 - tonumber(t[2])}
"""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a budget looks like after a request: `remaining` is what all processes have left, as far as this one knows."""

    limit: int
    remaining: int
    reset_s: float


class Budgets:
    """The budgets that this process spends from; nothing here takes longer than 0.1 s."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._script = redis.register_script(_BORROW)
        self._known: OrderedDict[tuple[str, int], _Budget] = OrderedDict()
        self._tell_at = 0.0

    async def spend(self, name: str, *, limit: int) -> tuple[Standing, Throttled | None]:
        """Take one request off a budget of `limit` a second; return how it stands, and a refusal if there was none left."""
        budget = self._known.get((name, limit))
        if budget is None:
            budget = self._known[name, limit] = _Budget(name, limit)
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end((name, limit))
        while not budget.has_some():
            if budget.is_empty:
                wait_s = budget.reset_s()
                return budget.standing(), Throttled(
                    f"More than {limit} requests in this second; come back when it is over.", retry_after_s=wait_s
                )
            await self._borrow(budget)
        budget.pieces -= 1
        return budget.standing(), None

    async def _borrow(self, budget: _Budget) -> None:
        """Borrow for all who wait for this budget with one command."""
        if budget.borrowing is None:
            budget.borrowing = asyncio.ensure_future(self._ask(budget))
        await asyncio.shield(budget.borrowing)

    async def _ask(self, budget: _Budget) -> None:
        asked_at = time.monotonic()
        try:
            async with asyncio.timeout(_LEASE_S):
                granted, used, left_us = await self._script(
                    keys=[f"relay:budget:{budget.name}"], args=[budget.next_piece(), budget.limit]
                )
            budget.borrowed(granted, used=used, ends_at=asked_at + left_us / 1e6)
        except UNREACHABLE as cause:
            budget.borrowed(budget.limit, used=budget.limit, ends_at=time.monotonic() + _ALONE_S)
            if (now := time.monotonic()) >= self._tell_at:
                self._tell_at = now + _TELL_S
                _LOG.warning("each process keeps the rate limits alone, Redis cannot be reached: %r", cause)
        finally:
            budget.borrowing = None


class _Budget:
    """One budget as this process sees it."""

    def __init__(self, name: str, limit: int) -> None:
        self.name, self.limit = name, limit
        self.pieces = 0
        self.is_empty = False
        self.borrowing: asyncio.Future[None] | None = None
        self._used = 0
        self._times = 0
        self._ends_at = 0.0

    def has_some(self) -> bool:
        """Whether a request may be taken off; a second that is over takes with it what was left."""
        if time.monotonic() >= self._ends_at:
            self.pieces, self.is_empty, self._used, self._times = 0, False, 0, 0
        return self.pieces > 0

    def next_piece(self) -> int:
        """How much to borrow next: little first, for others may need it more."""
        return max(1, min(self.limit * 2**self._times // _SMALLEST, self.limit // _LARGEST))

    def borrowed(self, granted: int, *, used: int, ends_at: float) -> None:
        """Take in what Redis, or nobody, said."""
        self.pieces = granted
        self.is_empty = granted == 0 or used >= self.limit
        self._used = used
        self._times += 1
        self._ends_at = ends_at

    def reset_s(self) -> float:
        return max(0.0, self._ends_at - time.monotonic())

    def standing(self) -> Standing:
        return Standing(self.limit, max(0, self.limit - self._used + self.pieces), self.reset_s())
