"""The taker of a worker process: what its held lanes ask for in one moment is taken in one transaction, and sent.

A delivery of a FIFO lane leaves right after the commit that took it, with nothing awaited in between: whoever moves its
lane's head meanwhile is refused by the locks, or comes after the request.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from relay import metrics
from relay.db import REPEATABLE, Conn, Database
from relay.delivery.beats import Beats
from relay.delivery.deliver import Cargo, Deliverer
from relay.delivery.following import Follower, Following
from relay.delivery.holdings import Holdings, Key
from relay.delivery.live import Claimed
from relay.delivery.take import Taken, Want, give_up_probe, lock, take_due, take_heads
from relay.pump import Pump

_BATCH = 100
_TRANSACTIONS_AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class _Request:
    want: Want
    follower: Follower
    answer: asyncio.Future[tuple[Taken, int]]


class Taker:
    """Takes for the holders of lanes and hands what it got to the sender."""

    def __init__(
        self, db: Database, deliverer: Deliverer, following: Following, *, beats: Beats, holdings: Holdings
    ) -> None:
        self._db = db
        self._deliverer = deliverer
        self._following = following
        self._beats = beats
        self._holdings = holdings
        self._waiting: deque[_Request] = deque()
        self._pump = Pump(self._serve_batch, self._waiting, at_once=_TRANSACTIONS_AT_ONCE)
        #: Asks, in the transaction of a take, to probe an endpoint whose circuit is half open: one in the system may.
        self.may_probe: Callable[[Conn, UUID], Awaitable[bool]] | None = None

    async def take(self, want: Want, follower: Follower) -> tuple[Taken, int]:
        """Take and send; return what was taken and how many are on their way, for each of which `done` is called once.

        The holder of a FIFO lane has taken a seat before. Its `done` comes when no head follows the last one.
        """
        request = _Request(want, follower, asyncio.get_running_loop().create_future())
        self._waiting.append(request)
        self._pump.wake()
        return await request.answer

    async def _serve_batch(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
        for kind in ([r for r in batch if not r.want.lane.ordered], [r for r in batch if r.want.lane.ordered]):
            if kind:
                await self._serve(kind)

    async def _serve(self, batch: Sequence[_Request]) -> None:
        try:
            generation = self._beats.generation
            taken, cargo = await self._take([request.want for request in batch])
        except BaseException as cause:
            for request in batch:
                if not request.answer.done():
                    request.answer.set_exception(cause)
            if not isinstance(cause, Exception):
                raise
            return
        for request, answer in zip(batch, taken, strict=True):
            on_their_way = self._send(request, answer.claimed, cargo, generation=generation)
            if not request.answer.done():
                request.answer.set_result((answer, on_their_way))

    def _send(self, request: _Request, claimed: Sequence[Claimed], cargo: Cargo, *, generation: int) -> int:
        if not claimed:
            return 0
        if not request.want.lane.ordered:
            return self._deliverer.offer(claimed, cargo, generation=generation, done=request.follower.done)
        (head,) = claimed
        return int(self._following.send(head, cargo, request.want, request.follower, generation=generation))

    async def _take(self, wants: Sequence[Want]) -> tuple[list[Taken], Cargo]:
        keys: list[Key] = []
        try:
            async with self._db.transaction() as conn:
                with metrics.DATABASE_SECONDS.labels("take").time():
                    taken = await self._take_locked(conn, wants)
                claimed = [one for answer in taken for one in answer.claimed]
                keys = self._holdings.enter((one.id, one.fence) for one in claimed)
                cargo = await self._deliverer.load(conn, claimed) if claimed else Cargo({}, {})
        except BaseException as cause:
            # The commit may have been carried out: what is not in memory, the beat gives back.
            self._holdings.forget(keys)
            if isinstance(cause, REPEATABLE):
                return [Taken() for _ in wants], Cargo({}, {})
            raise
        if claimed:
            metrics.BATCH_SIZE.labels("take").observe(len(claimed))
        return taken, cargo

    async def _take_locked(self, conn: Conn, wants: Sequence[Want]) -> list[Taken]:
        await lock(conn, wants)
        wants = [replace(want, probes=await self._probe(conn, want)) if want.probes else want for want in wants]
        take = take_heads if wants[0].lane.ordered else take_due
        taken = await take(conn, wants, worker=self._beats.no)
        for want, answer in zip(wants, taken, strict=True):
            if want.probes and not answer.claimed:
                await give_up_probe(conn, want.lane.endpoint_id)
        return taken

    async def _probe(self, conn: Conn, want: Want) -> bool:
        return self.may_probe is not None and await self.may_probe(conn, want.lane.endpoint_id)
