"""Holding lanes: this process keeps each lane's deliveries in flight and refills it on every completion."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from relay.db import LOST, REPEATABLE, Database
from relay.delivery import lanes
from relay.delivery.beats import Beats
from relay.delivery.deliver import Deliverer
from relay.delivery.holdings import Holdings, Key
from relay.delivery.lanes import Lane
from relay.delivery.live import Claimed

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
        *,
        beats: Beats,
        holdings: Holdings,
        on_waiting: Callable[[], None],
    ) -> None:
        """`on_waiting` is called when a lane was let go with deliveries that are due."""
        self._db = db
        self._deliverer = deliverer
        self._beats = beats
        self._holdings = holdings
        self._on_waiting = on_waiting
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False

    async def hold(self, lane: Lane) -> None:
        """Become the holder of a lane that was handed out, unless it is somebody else's; its work goes on in a task."""
        await self._beats.ready()
        if self._stopping or lane.fence in self._holdings.lanes:
            return
        self._holdings.lanes.add(lane.fence)
        try:
            async with self._db.connection() as conn:
                ours = await lanes.hold(conn, lane, worker=self._beats.no)
        except BaseException:
            self._holdings.lanes.discard(lane.fence)
            raise
        if not ours:
            self._holdings.lanes.discard(lane.fence)
            return
        task = asyncio.get_running_loop().create_task(self._run(lane, generation=self._beats.generation))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Let go of every lane."""
        self._stopping = True
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _run(self, lane: Lane, *, generation: int) -> None:
        try:
            await self._refill(lane, generation=generation)
            await self._release(lane)
        except LOST as cause:
            _LOG.info("a lane is left to the beat: %s", cause)
        except Exception:
            _LOG.exception("a lane is left to the beat")
        finally:
            self._holdings.lanes.discard(lane.fence)

    async def _refill(self, lane: Lane, *, generation: int) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + HOLD_S
        answered = asyncio.Event()
        in_flight = 0

        def done() -> None:
            nonlocal in_flight
            in_flight -= 1
            answered.set()

        while not self._stopping and loop.time() < until and self._beats.may_send(generation):
            answered.clear()
            room = self._deliverer.room_for(lane.endpoint_id) if in_flight else await self._wait_for_room(lane)
            if room == 0 and in_flight == 0:
                return
            if room:
                claimed = await self._take(lane, limit=min(_BATCH, room))
                if not claimed:
                    return
                in_flight += len(claimed)
                sent = await self._deliverer.ship(claimed, generation=generation, done=done)
                in_flight -= len(claimed) - sent
            if in_flight and not answered.is_set():
                with suppress(TimeoutError):
                    await asyncio.wait_for(answered.wait(), max(0.0, until - loop.time()))

    async def _wait_for_room(self, lane: Lane) -> int:
        """Wait a second for room: a lane let go at once, and due, would only go round in circles."""
        loop = asyncio.get_running_loop()
        patient_until = loop.time() + _PATIENCE_S
        while (room := self._deliverer.room_for(lane.endpoint_id)) == 0:
            if self._stopping or loop.time() > patient_until:
                break
            await asyncio.sleep(_LOOK_S)
        return room

    async def _take(self, lane: Lane, *, limit: int) -> list[Claimed]:
        keys: list[Key] = []
        try:
            async with self._db.transaction() as conn:
                if not await lanes.lock_held(conn, lane, worker=self._beats.no):
                    return []
                claimed = await lanes.take(conn, lane, worker=self._beats.no, limit=limit)
                keys = self._holdings.enter((one.id, one.fence) for one in claimed)
        except BaseException as cause:
            # The commit may have been carried out: what is not in memory, the beat gives back.
            self._holdings.forget(keys)
            if isinstance(cause, REPEATABLE):
                return []
            raise
        return claimed

    async def _release(self, lane: Lane) -> None:
        async with self._db.transaction() as conn:
            if not await lanes.lock_to_release(conn, lane, worker=self._beats.no):
                return
            due = await lanes.release(conn, lane)
        if due:
            self._on_waiting()
