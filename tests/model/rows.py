"""Rows of the model's tables, and what a worker knows of one that it owns."""

from __future__ import annotations

from dataclasses import dataclass, replace

LaneId = tuple[str, str]
FIFO = "fifo:"
#: The endpoint whose dead heads block their lanes.
BLOCKING = "blocking"


def is_ordered(lane: LaneId) -> bool:
    """Whether a lane's deliveries are sent one at a time, by seq."""
    return lane[1].startswith(FIFO)


def gate_of(lane: LaneId) -> LaneId:
    """The lane on whose row the gates of a lane's endpoint stand."""
    return (lane[0], "")


class Violation(AssertionError):
    """The protocol broke a promise."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A row of `live`."""

    lane: LaneId
    due_at: float | None = None
    fence: int | None = None
    owner: int | None = None
    sent_at: float = 0.0
    attempts: int = 0
    seq: int | None = None
    released_fence: int | None = None

    def waiting(self, due_at: float) -> Delivery:
        """This delivery, back in its lane."""
        return replace(self, due_at=due_at, fence=None, owner=None)


@dataclass(frozen=True, slots=True)
class Lane:
    """A row of `lanes`; of an endpoint's '' lane also its gates. `open_until`: its circuit is open, half open from then."""

    ready_at: float | None = None
    fence: int | None = None
    owner: int | None = None
    sent_at: float = 0.0
    next_seq: int = 1
    blocked_by: int | None = None
    paused: bool = False
    open_until: float | None = None
    probe_until: float = 0.0
    epoch: int = 0

    def due(self, now: float) -> bool:
        """True when it has work to do now."""
        return self.ready_at is not None and self.ready_at <= now

    def rung(self, at: float) -> Lane:
        """This lane, to be looked at no later than `at`."""
        return replace(self, ready_at=at if self.ready_at is None else min(self.ready_at, at))

    def let_go(self, ready_at: float | None) -> Lane:
        """This lane, held by nobody."""
        return replace(self, ready_at=ready_at, fence=None, owner=None)


@dataclass(frozen=True, slots=True)
class Claim:
    """What a process knows of a delivery it owns. `read_at`: when it read the gates, and with them `epoch`."""

    id: int
    fence: int
    no: int
    attempts: int
    made_at: float
    lane: LaneId
    read_at: float
    epoch: int
    seq: int | None = None
    probes: bool = False
