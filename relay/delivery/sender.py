"""The sender of a worker process: keeps each endpoint to its width and the process to its slots.

All plain functions on the event loop: a delivery is offered, and posted (`relay.delivery.posting`) when there is room.
Nothing here waits, so an endpoint that never answers holds its own width and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from uuid import UUID

from relay.delivery.destinations import Destination
from relay.delivery.flow import Flow, Shipment
from relay.delivery.oauth import Carrier
from relay.delivery.posting import Posting
from relay.delivery.recorder import Recorder
from relay.delivery.slots import Slots

_FLOWS = 10_000
_BEHIND_S = 0.1


class Sender:
    """Sends shipments; `may_send(generation)` is asked right before each POST whether this process still owns its claims."""

    def __init__(self, transport: Carrier, recorder: Recorder, *, slots: int, may_send: Callable[[int], bool]) -> None:
        self.posting = Posting(transport, recorder, may_send=may_send)
        self._recorder = recorder
        self._slots = Slots(slots)
        self._may_send = may_send
        self._flows: dict[UUID, Flow] = {}
        self._stopped = False
        self._starved: dict[Flow, None] = {}
        self._quiet = asyncio.Lock()

    @property
    def in_flight(self) -> int:
        """Requests that have begun and have no outcome yet, and seats that are taken."""
        return self._slots.in_flight

    @asynccontextmanager
    async def turn(self, tier: int) -> AsyncIterator[None]:
        """Wait until there is a free slot and this tier's turn, the recorder keeps up, and nothing is to be sent alone."""
        while not self._stopped and self._must_wait():  # noqa: ASYNC110
            await asyncio.sleep(_BEHIND_S)  # rare, and over by itself
        async with self._slots.turn(tier):
            yield

    def room_for(self, destination: Destination, *, tier: int) -> int:
        """How many more of this endpoint's deliveries of a tier can be used now: none while the recorder is behind."""
        if self._stopped or self._quiet.locked() or self._recorder.behind:
            return 0
        flow = self._flow(destination)
        return max(0, min(flow.room(tier), self._slots.left(destination.tenant_id)))

    def takes_per_s(self, destination: Destination) -> float:
        """How many deliveries a second the endpoint takes from this process, as far as is known."""
        return self._flow(destination).pace.per_s()

    def offer(self, shipments: Iterable[Shipment]) -> None:
        """Send what there is room for, keep a little at hand, and put the rest back into its lane."""
        too_many: list[Shipment] = []
        flows: dict[UUID, Flow] = {}
        for shipment in shipments:
            flow = self._flow(shipment.destination)
            flow.enter(shipment.delivery.epoch)
            if flow.room(shipment.delivery.tier) > 0 and not self._quiet.locked():
                flow.push(shipment)
                flows[shipment.destination.id] = flow
            else:
                too_many.append(shipment)
        for flow in flows.values():
            self._start(flow)
        self._put_back(too_many)

    async def take_seat(self, destination: Destination) -> bool:
        """Wait for a seat: a slot, and a place in the endpoint's width; False when nothing is sent any more.

        `send_seated` sends in it, one delivery after the other, and `leave` gives it back.
        """
        if self._stopped:
            return False
        flow = self._flow(destination)
        seat: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        flow.seekers.append(seat)
        self._start(flow)
        try:
            await seat
        except asyncio.CancelledError:
            if seat in flow.seekers:
                flow.seekers.remove(seat)
            elif seat.done() and not seat.cancelled():
                self.leave(destination)
            raise
        if self._stopped:
            self.leave(destination)
        return not self._stopped

    def leave(self, destination: Destination) -> None:
        """Give a seat back."""
        self._end(self._flow(destination))

    def send_seated(self, shipment: Shipment) -> None:
        """Send a shipment now, in a seat that stays its holder's; nothing lies between this call and its request."""
        flow = self._flow(shipment.destination)
        flow.enter(shipment.delivery.epoch)
        if not self._stopped and self._may_send(shipment.generation):
            self.posting.post(shipment, flow, end=lambda: None)
        else:
            self._put_back([shipment])

    def may_stay(self, destination: Destination) -> bool:
        """Whether a seat may be used for one more: the endpoint's width has not shrunk below those that are taken."""
        flow = self._flow(destination)
        return flow.in_flight <= flow.pace.width and not self._quiet.locked()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Begin nothing, wait until all that was begun has its outcome, and let the block send what may kill the process.

        What is at hand meanwhile goes back, for others to send.
        """
        try:
            async with self._quiet:
                for flow in self._flows.values():
                    self._put_back(flow.clear())
                await self._slots.wait_until_empty()
                yield
        finally:
            for flow in list(self._flows.values()):
                self._start(flow)

    def sit_down(self, destination: Destination) -> None:
        """Take a seat without waiting, as `alone` allows."""
        self._begin(self._flow(destination))

    async def send_alone(self, shipment: Shipment) -> None:
        """Send a shipment while nothing else is sent, and wait for its answer."""
        answered = asyncio.Event()

        def done() -> None:
            shipment.done()
            answered.set()

        async with self.alone():
            self.sit_down(shipment.destination)
            self.send_seated(replace(shipment, done=done))
            await answered.wait()
            self.leave(shipment.destination)

    def stop(self) -> None:
        """Begin nothing more, and put back what was not begun."""
        self._stopped = True
        self._slots.close()
        for flow in self._flows.values():
            self._put_back(flow.clear())
            while flow.seekers:
                self._seat(flow)

    async def wait_until_idle(self) -> None:
        """Wait until every request that was begun has its outcome."""
        await self._slots.wait_until_empty()

    def _must_wait(self) -> bool:
        return self._recorder.full or self._quiet.locked()

    def _flow(self, destination: Destination) -> Flow:
        flow = self._flows.get(destination.id)
        if flow is None:
            if len(self._flows) >= _FLOWS:
                self._flows = {id: flow for id, flow in self._flows.items() if not flow.idle}
            flow = self._flows[destination.id] = Flow(destination)
        flow.update(destination)
        return flow

    def _start(self, flow: Flow) -> None:
        """Use the flow's width: seats first, which hold their lanes up; then what is at hand."""
        while flow.open and not self._quiet.locked():
            if self._slots.left(flow.tenant_id) <= 0:
                self._put_back(flow.clear())
                if flow.seekers:
                    self._starved[flow] = None
                return
            if flow.seekers:
                self._seat(flow)
            elif (shipment := flow.pop()) is None:
                return
            elif self._may_send(shipment.generation):
                self._begin(flow)
                self.posting.post(shipment, flow, end=partial(self._end, flow))
            else:
                self._put_back([shipment])

    def _seat(self, flow: Flow) -> None:
        seat = flow.seekers.popleft()
        if not seat.done():
            self._begin(flow)
            seat.set_result(None)

    def _begin(self, flow: Flow) -> None:
        flow.in_flight += 1
        self._slots.take(flow.tenant_id)

    def _end(self, flow: Flow) -> None:
        flow.in_flight -= 1
        self._slots.give(flow.tenant_id)
        self._start(flow)
        if self._starved and self._slots.free > 0:
            starved = next(iter(self._starved))
            del self._starved[starved]
            self._start(starved)

    def _put_back(self, shipments: Iterable[Shipment]) -> None:
        shipments = list(shipments)
        if shipments:
            self._recorder.put_back([shipment.delivery for shipment in shipments])
            for shipment in shipments:
                shipment.done()
