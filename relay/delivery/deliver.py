"""Claiming what a message names, and handing it to the sender. Returns at once; the claim, not the ack, is the safety."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import UUID

from relay.db import REPEATABLE, Database
from relay.delivery.beats import Beats
from relay.delivery.destinations import Destination, Destinations, read_contents
from relay.delivery.holdings import Holdings
from relay.delivery.live import Claimed, Dispatched, claim
from relay.delivery.outcomes import Cancelled, Dead, Outcome, Reason
from relay.delivery.record import Recorded
from relay.delivery.recorder import Recorder
from relay.delivery.sender import Sender, Shipment

_LOST_AT_MOST = 5


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

    async def deliver(self, dispatched: Sequence[Dispatched]) -> None:
        """Claim these deliveries and offer those that are ours to the sender, in the order given."""
        await self._beats.ready()
        await self._sender.wait_for_room()
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
                    return await claim(conn, dispatched, worker=self._beats.no)
            except REPEATABLE:
                continue

    async def ship(
        self, claimed: Sequence[Claimed], *, generation: int, done: Callable[[], None] = lambda: None
    ) -> int:
        """Offer owned deliveries to the sender; return how many are on their way. `done` is called once for each of those.

        Puts all of them back when what to send cannot be read, for they are in memory, and no beat would give them back.
        """
        try:
            async with self._db.connection() as conn:
                destinations = await self._destinations.of(conn, claimed)
                contents = await read_contents(conn, (one.event_id for one in claimed))
        except BaseException:
            self._recorder.put_back(claimed)
            raise
        shipments: list[Shipment] = []
        for one in claimed:
            destination, content = destinations[one.endpoint_id], contents.get(one.event_id)
            verdict = _not_to_be_sent(one, destination)
            if content is None or verdict is not None:
                self._recorder.add(Recorded(one, verdict or Dead(Reason.EXPIRED), None))
            else:
                shipments.append(Shipment(one, content, destination, generation, done))
        self._sender.offer(shipments)
        return len(shipments)

    def room_for(self, endpoint_id: UUID) -> int:
        """How many more deliveries of this endpoint are of use now; a few while nothing is known of it."""
        destination = self._destinations.known(endpoint_id)
        return self._sender.room_for(destination) if destination else 2


def _not_to_be_sent(delivery: Claimed, destination: Destination) -> Outcome | None:
    if destination.deleted:
        return Cancelled(Reason.ENDPOINT_DELETED)
    if delivery.lost >= _LOST_AT_MOST:
        return Dead(Reason.WORKER_LOST)
    return None
