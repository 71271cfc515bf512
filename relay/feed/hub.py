"""A web process's side of the feed: reads each watched tenant's stream once, and hands its lines to all who watch.

A reader has a queue of its own and is never waited for: one that does not keep up, or takes nothing for half a minute, is
cut off. What it missed it finds in the stream when it comes back.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import msgspec

from relay.errors import Unavailable
from relay.feed import wire
from relay.feed.lines import Wanted
from relay.feed.wire import Entry, Place
from relay.queue import UNREACHABLE
from relay.redis_clients import Limits, asyncio_client
from relay.tasks import cancel

HEARTBEAT_S = 15.0
MAX_READERS = 500
MAX_QUEUED = 2000
STALLED_S = 30.0
_RENEW_S = 15.0
_BLOCK_MS = 500
_TIMEOUT_S = 2.0
_AGAIN_S = 0.5
_PAGE = 10
_AT_ONCE = 200
#: On top of what workers take to look, before a reader is told that it will miss nothing from now on.
_MARGIN_S = 0.3
_LOG = logging.getLogger(__name__)
_GAP = b"event: gap\ndata: {}\n\n"


@dataclass(slots=True)
class _Channel:
    """A tenant's stream as far as it was read."""

    position: Place
    sure_at: float
    renew_at: float
    members: set[Reader] = field(default_factory=set["Reader"])
    live: set[Reader] = field(default_factory=set["Reader"])


class _Rendered:
    """An entry with its lines as they are sent, made once for all readers."""

    def __init__(self, tenant_id: UUID, entry: Entry) -> None:
        self.place, self.gap = entry.place, entry.gap
        # The stream is the tenant's own; a line of another one would be a bug, and is not shown even then.
        self.lines = [
            (line, b"id: %s-%d\ndata: %s\n\n" % (entry.place.entry.encode(), n, msgspec.json.encode(line)))
            for n, line in enumerate(entry.lines, 1)
            if line.tenant_id == tenant_id
        ]
        self.texts = [text for _, text in self.lines]


class Reader:
    """Somebody who watches; `cut` ends the connection at once, whatever it still has to send."""

    def __init__(self, tenant_id: UUID, wanted: Wanted, position: Place, *, cut: Callable[[], None]) -> None:
        self.tenant_id, self.position = tenant_id, position
        self.ended = False
        self.sending_since: float | None = None
        self._wanted = wanted
        self._cut = cut
        self._queue: list[bytes] = []
        self._woken = asyncio.Event()

    def end(self) -> None:
        """Have the stream end in good order."""
        self.ended = True
        self._woken.set()

    def cut(self) -> None:
        """Have it end at once."""
        self.end()
        self._queue.clear()
        self._cut()

    def take(self, entry: _Rendered) -> None:
        """Queue what is asked for of an entry's lines, unless it was taken before."""
        if entry.place <= self.position or self.ended:
            return
        behind = self.position.behind if entry.place.entry == self.position.entry else 0
        if entry.gap and not behind:
            self.tell_of_gap()
        if self._wanted.everything:
            self._queue += entry.texts[behind:]
        else:
            self._queue += [text for line, text in entry.lines[behind:] if self._wanted.takes(line)]
        self.position = entry.place
        if len(self._queue) > MAX_QUEUED:
            self.cut()
        elif self._queue:
            self._woken.set()

    def tell_of_gap(self) -> None:
        """Say, once, that lines are missing here."""
        if self._queue[-1:] != [_GAP]:
            self._queue.append(_GAP)
            self._woken.set()

    def taken(self) -> bytes:
        """Take what is queued, but no more at once than a connection may hold."""
        text = b"".join(self._queue[:_AT_ONCE])
        del self._queue[:_AT_ONCE]
        if not self._queue and not self.ended:
            self._woken.clear()
        return text

    async def wait(self, seconds: float) -> None:
        """Wait until something is queued or the stream ends, for so long at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()


class Hub:
    """All who watch in this process; each hears something every `heartbeat_s` seconds."""

    def __init__(self, redis_url: str, *, connections: int, heartbeat_s: float = HEARTBEAT_S) -> None:
        self.heartbeat_s = heartbeat_s
        self._redis = asyncio_client(redis_url, Limits(connections, timeout_s=_TIMEOUT_S))
        self._channels: dict[UUID, _Channel] = {}
        self._pumping: asyncio.Task[None] | None = None
        self._ended = False

    async def join(self, tenant_id: UUID, wanted: Wanted, *, after: Place | None, cut: Callable[[], None]) -> Reader:
        """Let somebody watch a tenant from now on, or from behind a place; raises Unavailable."""
        if self._ended or sum(len(channel.members) for channel in self._channels.values()) >= MAX_READERS:
            raise Unavailable("Too many watch already. Try again.", retry_after_s=1)
        try:
            last, new = await wire.watch(self._redis, tenant_id)
        except UNREACHABLE as cause:
            raise Unavailable("Redis cannot be reached, and the live view needs it. Try again.") from cause
        now = time.monotonic()
        channel = self._channels.setdefault(tenant_id, _Channel(last, now, now + _RENEW_S))
        if new:
            channel.sure_at = now + wire.FRESH_S + _MARGIN_S
        reader = Reader(tenant_id, wanted, last if after is None else min(after, last), cut=cut)
        if after is not None and after > last:  # of a stream that is gone
            reader.tell_of_gap()
        channel.members.add(reader)
        if self._pumping is None:
            self._pumping = asyncio.create_task(self._pump())
        return reader

    async def follow(self, reader: Reader) -> AsyncIterator[bytes]:
        """Give what the reader is sent, as Server-Sent Events; ends when the reader ends."""
        channel = self._channels[reader.tenant_id]
        await reader.wait(channel.sure_at - time.monotonic())
        if not reader.ended:
            yield b": from here on\nretry: 1000\nid: %s\n\n" % str(reader.position).encode()
        async for text in self._catch_up(reader, channel):
            yield text
        while not reader.ended:
            await reader.wait(self.heartbeat_s)
            # The id of what was looked at last, so that who comes back need not look at it again.
            yield reader.taken() or b": all is well\nid: %s\n\n" % str(reader.position).encode()

    def leave(self, reader: Reader) -> None:
        """Forget a reader."""
        reader.end()
        channel = self._channels.get(reader.tenant_id)
        if channel is not None:
            channel.members.discard(reader)
            channel.live.discard(reader)
            if not channel.members:
                del self._channels[reader.tenant_id]

    def end(self) -> None:
        """Have every stream end in good order, and let nobody in."""
        self._ended = True
        for reader in self._readers():
            reader.end()

    async def close(self) -> None:
        """Close the connections."""
        self.end()
        await cancel([self._pumping] if self._pumping else [])
        await self._redis.aclose()

    def _readers(self) -> list[Reader]:
        return [reader for channel in self._channels.values() for reader in channel.members]

    async def _catch_up(self, reader: Reader, channel: _Channel) -> AsyncIterator[bytes]:
        """Give what is in the stream behind the reader's place until it is where all are; then it gets what comes."""
        asked = reader.position
        while reader.position < channel.position and not reader.ended:
            page = await self._page(reader)
            if reader.position is asked and (not page or page[0].place.entry != asked.entry):
                reader.tell_of_gap()
            before = reader.position
            for one in page:
                reader.take(_Rendered(reader.tenant_id, one))
            while text := reader.taken():
                yield text
            if reader.position == before:
                break
        reader.position = max(reader.position, channel.position)
        channel.live.add(reader)

    async def _page(self, reader: Reader) -> list[Entry]:
        """The entry at the reader's place and those behind it."""
        try:
            found: Any = await self._redis.xrange(wire.stream(reader.tenant_id), min=reader.position.entry, count=_PAGE)
        except UNREACHABLE:
            reader.end()
            return []
        return [wire.entry(*one) for one in found]

    async def _pump(self) -> None:
        try:
            while self._channels and not self._ended:
                try:
                    await self._renew()
                    await self._read()
                except UNREACHABLE:
                    for channel in self._channels.values():
                        channel.renew_at = 0.0
                    await asyncio.sleep(_AGAIN_S)
                except Exception:
                    _LOG.exception("the live view goes on")
                    await asyncio.sleep(_AGAIN_S)
                self._cut_stalled()
        finally:
            self._pumping = None

    async def _renew(self) -> None:
        now = time.monotonic()
        for tenant_id, channel in list(self._channels.items()):
            if channel.renew_at <= now:
                await wire.watch(self._redis, tenant_id)
                channel.renew_at = now + _RENEW_S

    async def _read(self) -> None:
        streams = {wire.stream(id).encode(): id for id in self._channels}
        places = {key: self._channels[id].position.entry for key, id in streams.items()}
        found = await self._redis.xread(places, count=_PAGE, block=_BLOCK_MS)  # pyright: ignore[reportArgumentType]
        for key, entries in _items(found):
            channel = self._channels.get(streams[key])
            if channel is not None:
                for one in entries:
                    self._hand_out(channel, _Rendered(streams[key], wire.entry(*one)))
        await asyncio.sleep(0)

    def _hand_out(self, channel: _Channel, entry: _Rendered) -> None:
        channel.position = max(channel.position, entry.place)
        for reader in list(channel.live):
            reader.take(entry)
            if reader.ended:
                channel.live.discard(reader)

    def _cut_stalled(self) -> None:
        now = time.monotonic()
        for reader in self._readers():
            if reader.sending_since is not None and now - reader.sending_since > STALLED_S:
                reader.cut()


def _items(found: object) -> Iterable[tuple[bytes, list[tuple[bytes, dict[bytes, bytes]]]]]:
    """What XREAD gave: pairs in one version of the protocol, a map in the other."""
    if isinstance(found, dict):
        return [(key, [one for part in parts for one in part]) for key, parts in found.items()]
    return found or []  # pyright: ignore[reportReturnType]
