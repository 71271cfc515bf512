"""Claiming what a message names, and handing it to the sender. Returns at once; the claim, not the ack, is the safety."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from relay import metrics
from relay.db import REPEATABLE, Conn, Database
from relay.delivery.beats import Beats
from relay.delivery.destinations import Content, Destination, Destinations, read_contents
from relay.delivery.flow import Shipment
from relay.delivery.holdings import Holdings
from relay.delivery.live import TEST_LANE, Claimed, Dispatched, claim
from relay.delivery.outcomes import Cancelled, Dead, Outcome, Reason
from relay.delivery.record import Recorded
from relay.delivery.recorder import Recorder
from relay.delivery.sender import Sender
from relay.delivery.take import SUSPECT_LOST

_LOST_AT_MOST = 5


@dataclass(frozen=True, slots=True)
class Cargo:
    """What claimed deliveries need to be sent: where to, and what."""

    destinations: dict[UUID, Destination]
    contents: dict[UUID, Content]


class Deliverer:
    """Turns dispatched deliveries into shipments of this process's sender."""

    def __init__(
        self,
        db: Database,
        *,
        beats: Beats,
        holdings: Holdings,
        destinations: Destinations,
        sender: Sender,
        recorder: Recorder,
    ) -> None:
        self._db = db
        self._beats = beats
        self._holdings = holdings
        self._destinations = destinations
        self._sender = sender
        self._recorder = recorder
        self._alone: set[asyncio.Task[None]] = set()

    async def deliver(self, dispatched: Sequence[Dispatched], *, tier: int = 1) -> None:
        """Claim these deliveries and offer those that are ours to the sender, in the order given."""
        await self._beats.ready()
        async with self._sender.turn(tier):
            await self._deliver(dispatched)

    async def _deliver(self, dispatched: Sequence[Dispatched]) -> None:
        generation = self._beats.generation
        new = self._holdings.enter((one.id, one.fence) for one in dispatched)
        if not new:
            return
        try:
            claimed = await self._claim([Dispatched(*key) for key in sorted(new)])
        except BaseException:
            self._holdings.forget(new)
            raise
        mine = {one.id: one for one in claimed}
        self._holdings.forget(key for key in new if key[0] not in mine)
        await self.ship([mine[one.id] for one in dispatched if one.id in mine], generation=generation)

    async def _claim(self, dispatched: Sequence[Dispatched]) -> list[Claimed]:
        while True:
            try:
                async with self._db.connection() as conn:
                    with metrics.DATABASE_SECONDS.labels("claim").time():
                        claimed = await claim(conn, dispatched, worker=self._beats.no)
                    metrics.BATCH_SIZE.labels("claim").observe(len(dispatched))
                    return claimed
            except REPEATABLE:
                continue

    async def ship(self, claimed: Sequence[Claimed], *, generation: int) -> None:
        """Offer owned deliveries to the sender.

        Puts all of them back when what to send cannot be read, for they are in memory, and no beat would give them back.
        """
        try:
            async with self._db.connection() as conn:
                cargo = await self.load(conn, claimed)
        except BaseException:
            self._recorder.put_back(claimed)
            raise
        self.offer(claimed, cargo, generation=generation)

    async def load(self, conn: Conn, claimed: Sequence[Claimed]) -> Cargo:
        """Read what these deliveries need to be sent."""
        destinations = await self._destinations.of(conn, claimed)
        return Cargo(destinations, await read_contents(conn, (one.event_id for one in claimed)))

    def offer(
        self, claimed: Sequence[Claimed], cargo: Cargo, *, generation: int, done: Callable[[], None] = lambda: None
    ) -> int:
        """Hand owned deliveries to the sender; return how many are on their way. `done` is called once for each of those."""
        shipments = [one for each in claimed if (one := self._shipment(each, cargo, generation, done)) is not None]
        suspects = [one for one in shipments if one.delivery.lost >= SUSPECT_LOST]
        if suspects:
            shipments = [one for one in shipments if one.delivery.lost < SUSPECT_LOST]
            self._send_each_alone(suspects)
        self._sender.offer(shipments)
        return len(shipments) + len(suspects)

    def send_seated(self, claimed: Claimed, cargo: Cargo, *, generation: int, done: Callable[[], None]) -> bool:
        """Send one owned delivery now, in a seat that was taken; False, with the seat still taken, if it is not to be sent."""
        shipment = self._shipment(claimed, cargo, generation, done)
        if shipment is not None:
            self._sender.send_seated(shipment)
        return shipment is not None

    def _shipment(self, claimed: Claimed, cargo: Cargo, generation: int, done: Callable[[], None]) -> Shipment | None:
        """What to send, or None for what is recorded instead because it is not to be sent."""
        destination, content = cargo.destinations[claimed.endpoint_id], cargo.contents.get(claimed.event_id)
        verdict = _not_to_be_sent(claimed, destination)
        if verdict is None and content is not None and content.erased:
            verdict = Cancelled(Reason.ERASED)
        if content is None or verdict is not None:
            self._recorder.add(Recorded(claimed, verdict or Dead(Reason.EXPIRED), None))
            return None
        return Shipment(claimed, content, destination, generation, done)

    def _send_each_alone(self, suspects: Sequence[Shipment]) -> None:
        for shipment in suspects:
            task = asyncio.get_running_loop().create_task(self._sender.send_alone(shipment))
            self._alone.add(task)
            task.add_done_callback(self._alone.discard)

    async def destination(self, endpoint_id: UUID) -> Destination:
        """Where an endpoint's deliveries go, as last read; read now if never."""
        known = self._destinations.known(endpoint_id)
        if known is not None:
            return known
        async with self._db.connection() as conn:
            return await self._destinations.get(conn, endpoint_id)


def _not_to_be_sent(delivery: Claimed, destination: Destination) -> Outcome | None:
    if destination.deleted:
        return Cancelled(Reason.ENDPOINT_DELETED)
    if destination.disabled and delivery.lane != TEST_LANE:
        return Dead(Reason.ENDPOINT_DISABLED)
    if delivery.lost >= _LOST_AT_MOST:
        return Dead(Reason.WORKER_LOST)
    return None
