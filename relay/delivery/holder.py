"""Holding lanes: this process keeps each lane's deliveries in flight and refills it on every completion."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from relay.db import LOST, Database
from relay.delivery import lanes
from relay.delivery.beats import Beats
from relay.delivery.deliver import Deliverer
from relay.delivery.destinations import Destination
from relay.delivery.holdings import Holdings
from relay.delivery.lanes import Lane
from relay.delivery.releasing import Releaser
from relay.delivery.sender import Sender
from relay.delivery.take import Taken, Want
from relay.delivery.taker import Taker

HOLD_S = 5.0
_BATCH = 100
_PATIENCE_S = 1.0
_LOOK_S = 0.05
_LOG = logging.getLogger(__name__)


class LaneHolder:
    """Runs lanes as tasks of the event loop, each until it is empty, gated, or its time is over."""

    def __init__(
        self,
        db: Database,
        deliverer: Deliverer,
        taker: Taker,
        sender: Sender,
        *,
        beats: Beats,
        holdings: Holdings,
        on_waiting: Callable[[], None],
    ) -> None:
        """`on_waiting` is called when a lane was let go with deliveries that are due."""
        self._db = db
        self._deliverer = deliverer
        self._taker = taker
        self._sender = sender
        self._beats = beats
        self._holdings = holdings
        self._releaser = Releaser(db, beats=beats, on_waiting=on_waiting)
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False

    async def hold(self, handed_out: Sequence[Lane]) -> None:
        """Become the holder of lanes, but for those that are somebody else's; their work goes on in tasks."""
        await self._beats.ready()
        new = [lane for lane in handed_out if lane.fence not in self._holdings.lanes]
        if self._stopping or not new:
            return
        self._holdings.lanes.update(lane.fence for lane in new)
        ours: list[Lane] = []
        try:
            async with self._db.connection() as conn:
                ours = await lanes.hold(conn, new, worker=self._beats.no)
        finally:
            self._holdings.lanes.difference_update({lane.fence for lane in new} - {lane.fence for lane in ours})
        for lane in ours:
            task = asyncio.get_running_loop().create_task(self._run(lane, generation=self._beats.generation))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Let go of every lane."""
        self._stopping = True
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _run(self, lane: Lane, *, generation: int) -> None:
        hold = _Hold(lane, until=asyncio.get_running_loop().time() + HOLD_S, generation=generation)
        try:
            destination = await self._deliverer.destination(lane.endpoint_id)
            hold.metered = destination.rate_limit_per_sec > 0
            await (self._send_heads if lane.ordered else self._refill)(hold, destination)
            await self._release(hold, destination)
        except LOST as cause:
            _LOG.info("a lane is left to the beat: %s", cause, extra={"endpoint_id": lane.endpoint_id})
        except Exception:
            _LOG.exception("a lane is left to the beat", extra={"endpoint_id": lane.endpoint_id})
        finally:
            self._holdings.lanes.discard(lane.fence)

    def _goes_on(self, hold: _Hold) -> bool:
        in_time = asyncio.get_running_loop().time() < hold.until
        return in_time and not self._stopping and self._beats.may_send(hold.generation)

    # ---- ordinary lanes: as many in flight as the endpoint takes ------------------------------------------------------

    async def _refill(self, hold: _Hold, destination: Destination) -> None:
        while self._goes_on(hold):
            hold.answered.clear()
            destination = await self._deliverer.destination(hold.lane.endpoint_id)
            room = self._room(hold, destination)
            if room == 0 and hold.in_flight == 0:
                room = await self._wait_for_room(hold, destination)
            if room == 0 and hold.in_flight == 0:
                hold.crowded_per_s = self._sender.takes_per_s(destination)
                return
            if room and not await self._take(hold, limit=min(_BATCH, room)):
                return
            if hold.in_flight and not hold.answered.is_set():
                await hold.wait_for_answer()

    def _room(self, hold: _Hold, destination: Destination) -> int:
        """Room in the sender; what will not be sent needs none."""
        if destination.disabled or destination.deleted:
            return _BATCH
        return self._sender.room_for(destination, tier=hold.lane.tier)

    async def _wait_for_room(self, hold: _Hold, destination: Destination) -> int:
        """Wait a second for room: a lane let go at once, and due, would only go round in circles."""
        patient_until = min(hold.until, asyncio.get_running_loop().time() + _PATIENCE_S)
        while self._goes_on(hold) and asyncio.get_running_loop().time() < patient_until:
            if room := self._room(hold, destination):
                return room
            await asyncio.sleep(_LOOK_S)
        return 0

    async def _take(self, hold: _Hold, *, limit: int) -> bool:
        """Take what is due and there is room for; False when the lane has no more for now."""
        taken = await self._ask(hold, hold.want(limit))
        if taken.half_open and not taken.claimed:
            await self._ask(hold, replace(hold.want(), probes=True))
            return False
        return await self._again(hold, taken)

    async def _ask(self, hold: _Hold, want: Want) -> Taken:
        hold.in_flight += want.limit
        try:
            taken, sent = await self._taker.take(want, hold)
        except BaseException:
            hold.in_flight -= want.limit
            raise
        hold.in_flight -= want.limit - sent
        return taken

    async def _again(self, hold: _Hold, taken: Taken) -> bool:
        """Whether to ask again, after the time it takes for more to be there: what is near enough is waited for."""
        if taken.rate is not None:
            hold.metered = True
            hold.crowded_per_s = None if taken.claimed else taken.rate
            hold.in_vain = 0 if taken.claimed else hold.in_vain + 1
        if taken.wait_s is None:
            return bool(taken.claimed)
        if taken.wait_s > _PATIENCE_S or hold.in_vain > 1:
            return False
        await asyncio.sleep(taken.wait_s)
        return True

    # ---- FIFO lanes: the head, and after its record the next ----------------------------------------------------------

    async def _send_heads(self, hold: _Hold, destination: Destination) -> None:
        """Send head after head in a seat taken before; the lane is kept until the last one is recorded, however long."""
        while self._goes_on(hold) and await self._find_seat(hold, destination):
            try:
                taken = await self._send_from_seat(hold, destination)
            finally:
                self._sender.leave(destination)
            if taken.suspect:
                taken = await self._send_head_alone(hold, destination)
            if not taken.claimed and not await self._again(hold, taken):
                return

    async def _find_seat(self, hold: _Hold, destination: Destination) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                return await self._sender.take_seat(destination)
        hold.crowded_per_s = self._sender.takes_per_s(destination)
        return False

    async def _send_from_seat(self, hold: _Hold, destination: Destination) -> Taken:
        hold.goes_on_with = lambda: self._goes_on(hold) and self._sender.may_stay(destination)
        hold.probes = False
        taken = await self._send_head(hold, hold.want())
        hold.probes = taken.half_open and not taken.claimed and taken.wait_s is None
        return await self._send_head(hold, hold.want()) if hold.probes else taken

    async def _send_head(self, hold: _Hold, want: Want) -> Taken:
        """Take and send the head, and wait until it, and all that followed it, is recorded; return the last answer."""
        hold.answered.clear()
        hold.last = None
        taken, sent = await self._taker.take(want, hold)
        if sent:
            await hold.answered.wait()
        return hold.last or taken

    async def _send_head_alone(self, hold: _Hold, destination: Destination) -> Taken:
        hold.goes_on_with = lambda: False
        async with self._sender.alone():
            self._sender.sit_down(destination)
            try:
                return await self._send_head(hold, replace(hold.want(), alone=True))
            finally:
                self._sender.leave(destination)

    # ---- letting go ---------------------------------------------------------------------------------------------------

    async def _release(self, hold: _Hold, destination: Destination) -> None:
        await self._releaser.release(hold.lane, per_s=hold.crowded_per_s)
        if hold.metered:
            async with self._db.connection() as conn:
                await lanes.end_pace(conn, destination.id)


class _Hold:
    """A lane while this process holds it."""

    def __init__(self, lane: Lane, *, until: float, generation: int) -> None:
        self.lane = lane
        self.until = until
        self.generation = generation
        self.in_flight = 0
        self.in_vain = 0
        self.metered = False
        self.probes = False
        self.crowded_per_s: float | None = None
        self.answered = asyncio.Event()
        self.last: Taken | None = None
        self.goes_on_with: Callable[[], bool] = lambda: False

    def want(self, limit: int = 1) -> Want:
        """What to ask for."""
        return Want(self.lane, limit, probes=self.probes, metered=self.metered)

    @property
    def goes_on(self) -> bool:
        """Whether it wants the next head right after the last one."""
        return self.goes_on_with()

    def hear(self, taken: Taken) -> None:
        """Nothing follows the last head, and this is why."""
        self.last = taken

    def done(self) -> None:
        """One of its deliveries is answered (a head: recorded), put back or dropped."""
        self.in_flight -= 1
        self.answered.set()

    async def wait_for_answer(self) -> None:
        """Wait until one is, or the time is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self.until):
                await self.answered.wait()
