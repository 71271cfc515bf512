"""The feed in Redis: who is watched, and a short stream of lines for each of them. All of it may be lost at any time.

A tenant's stream is there while somebody watches and a little longer, so that who comes back finds what it missed. It
begins with an entry without lines: whoever meets that one on its way knows that something may be missing before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import msgspec
from redis.asyncio import Redis

from relay.errors import Invalid
from relay.feed.lines import Line

#: A tenant counts as watched for this long after the last word of a web process that watches it.
WATCHED_S = 60
#: How long a worker goes by what it read: until then a new watcher may miss lines.
FRESH_S = 1.0
#: Entries that a stream keeps, about; of up to 100 lines each.
_KEPT = 1000
LINES_AN_ENTRY = 100
_WATCHED = "relay:feed:watched"
_BEGIN, _LINES, _LOST = b"begin", b"lines", b"lost"

# KEYS: watched, stream. ARGV: tenant, seconds. The id of the stream's last entry, and whether the stream is new.
_WATCH = """
local now = tonumber(redis.call('time')[1])
local known = tonumber(redis.call('zscore', KEYS[1], ARGV[1]) or 0) >= now and redis.call('exists', KEYS[2]) == 1
if not known then
  redis.call('del', KEYS[2])
  redis.call('xadd', KEYS[2], '*', 'begin', '1')
end
redis.call('zremrangebyscore', KEYS[1], '-inf', now - 1)
redis.call('zadd', KEYS[1], now + tonumber(ARGV[2]), ARGV[1])
redis.call('expire', KEYS[2], 2 * tonumber(ARGV[2]))
return {redis.call('xrevrange', KEYS[2], '+', '-', 'COUNT', 1)[1][1], known and 0 or 1}
"""
# KEYS: watched. The tenants that are.
_LOOK = "return redis.call('zrangebyscore', KEYS[1], redis.call('time')[1], '+inf')"

_decoder = msgspec.json.Decoder(list[Line])


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A place in a tenant's stream: an entry, and how many of its lines are behind; None: the whole entry is."""

    ms: int
    seq: int
    behind: int = LINES_AN_ENTRY

    def __str__(self) -> str:
        """As Last-Event-ID has it."""
        return f"{self.entry}-{self.behind}"

    @property
    def entry(self) -> str:
        """The entry's id in Redis."""
        return f"{self.ms}-{self.seq}"


def place(text: str | bytes) -> Place:
    """Read a place as it was written, or the id of an entry. Raises Invalid."""
    try:
        text = text.decode() if isinstance(text, bytes) else text
        numbers = [int(part) for part in text.split("-")]
        if not 2 <= len(numbers) <= 3 or not all(0 <= number < 2**63 for number in numbers):
            raise ValueError(text)
        return Place(*numbers)
    except ValueError as cause:
        raise Invalid("Last-Event-ID is none that this stream has given.", field="Last-Event-ID") from cause


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a stream; `gap`: lines before it are missing."""

    place: Place
    lines: Sequence[Line]
    gap: bool


def entry(id: bytes, fields: dict[bytes, bytes]) -> Entry:
    """Read an entry as Redis gives it."""
    return Entry(place(id), _decoder.decode(fields.get(_LINES, b"[]")), _BEGIN in fields or _LOST in fields)


def stream(tenant_id: UUID) -> str:
    """The key of a tenant's stream."""
    return f"relay:feed:{tenant_id}"


async def watch(redis: Redis, tenant_id: UUID) -> tuple[Place, bool]:
    """Have the workers write the tenant's lines for a minute; return where its stream ends, and whether it is new."""
    last, new = await redis.eval(_WATCH, 2, _WATCHED, stream(tenant_id), str(tenant_id), str(WATCHED_S))
    return place(last), bool(new)


async def look(redis: Redis) -> frozenset[UUID]:
    """The tenants that are watched."""
    found = await redis.eval(_LOOK, 1, _WATCHED)
    return frozenset(UUID(one.decode()) for one in found)


async def write(redis: Redis, lines: dict[UUID, list[Line]], *, lost: frozenset[UUID]) -> None:
    """Add these lines to the streams that are there, with one pipeline; `lost`: whose lines were lost before."""
    pipeline = redis.pipeline(transaction=False)
    for tenant_id, mine in lines.items():
        for start in range(0, len(mine), LINES_AN_ENTRY):
            fields = {_LINES: msgspec.json.encode(mine[start : start + LINES_AN_ENTRY])}
            if start == 0 and tenant_id in lost:
                fields[_LOST] = b"1"
            # A stream that has ended must not begin again by this: nothing would end it.
            pipeline.xadd(stream(tenant_id), fields, maxlen=_KEPT, approximate=True, nomkstream=True)  # pyright: ignore[reportArgumentType]
    await pipeline.execute()
