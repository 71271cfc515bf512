"""The flow to one endpoint from this process: its width, what is at hand for it by tier, and who waits for a seat."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from relay.delivery.destinations import Content, Destination
from relay.delivery.live import TIERS, Claimed
from relay.delivery.pace import Pace
from relay.delivery.shares import Shares


@dataclass(frozen=True, slots=True)
class Shipment:
    """A claimed delivery, ready to go. `done` is called once: when it was answered (FIFO: recorded), put back or dropped.

    `note` is what its attempt says beside what comes back: why its transformation changed nothing.
    """

    delivery: Claimed
    content: Content
    destination: Destination
    generation: int
    done: Callable[[], None] = lambda: None
    method: str = "POST"
    note: str | None = None


class Flow:
    """One endpoint's share of this process. A seat is a place in its width, taken before its delivery is known."""

    def __init__(self, destination: Destination) -> None:
        self.tenant_id: UUID = destination.tenant_id
        self.pace = Pace(destination.max_concurrency)
        self.metered = False
        self.in_flight = 0
        self.seekers: deque[asyncio.Future[None]] = deque()
        self._waiting: tuple[deque[Shipment], ...] = tuple(deque() for _ in TIERS)
        self._shares = Shares()
        self._epoch: int | None = None
        self.update(destination)

    def update(self, destination: Destination) -> None:
        """Take over the endpoint's policy as it is now."""
        self.pace.limit(destination.max_concurrency)
        self.metered = destination.rate_limit_per_sec > 0

    def enter(self, epoch: int) -> None:
        """Begin with a small width in another epoch of the endpoint's gate: what a circuit held comes back paced."""
        if self._epoch not in (None, epoch):
            self.pace.reset()
        self._epoch = epoch

    @property
    def idle(self) -> bool:
        """Whether nothing is sent, waits or is sought."""
        return not (self.in_flight or self.seekers or any(self._waiting))

    @property
    def open(self) -> bool:
        """Whether its width allows one more request."""
        return self.in_flight < self.pace.width

    def room(self, tier: int) -> int:
        """How many more deliveries of a tier can be used: what may be sent, and a little to have at hand.

        Of a metered endpoint nothing is kept at hand: what its rate allowed is to be sent now.
        """
        at_hand = 0 if self.metered else self.pace.at_hand()
        return self.pace.width + at_hand - self.in_flight - len(self._waiting[tier])

    def push(self, shipment: Shipment) -> None:
        """Have one more at hand."""
        self._waiting[shipment.delivery.tier].append(shipment)

    def pop(self) -> Shipment | None:
        """The next to send: tiers have their turns by share, and within a tier the oldest comes first."""
        tiers = [tier for tier, queue in enumerate(self._waiting) if queue]
        return self._waiting[self._shares.next(tiers)].popleft() if tiers else None

    def clear(self) -> list[Shipment]:
        """Have nothing at hand any more; return what was."""
        left = [shipment for queue in self._waiting for shipment in queue]
        for queue in self._waiting:
            queue.clear()
        return left
