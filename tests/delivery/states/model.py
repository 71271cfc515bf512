"""The model of tests/delivery/test_state_machine.py: where deliveries, lanes, endpoints, events and jobs are to stand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from relay.catalog.partition_keys import partition_key
from relay.delivery.live import FIFO, lane_of, tier_of
from relay.insight.counts import QueueStats

PATH = "$.k"
FINAL = frozenset({"delivered", "dead", "cancelled"})


@dataclass
class Parcel:
    """A delivery. `state`: waiting, dispatched, sending, or final; `delayed`: due later; `settled`: dead and off the list."""

    id: UUID
    event: UUID
    endpoint: UUID
    lane: str
    tier: int
    seq: int | None = None
    first: bool = True
    replay_of: UUID | None = None
    job: UUID | None = None
    state: str = "waiting"
    fence: int | None = None
    owner: int | None = None
    attempts: int = 0
    lost: int = 0
    delayed: bool = False
    released: int | None = None
    settled: bool = False

    def wait(self, *, delayed: bool = False) -> None:
        self.state, self.fence, self.owner, self.delayed = "waiting", None, None, delayed

    def end(self, state: str) -> None:
        self.wait()
        self.state, self.lost, self.released = state, 0, None

    @property
    def unowned(self) -> bool:
        return self.state in {"waiting", "dispatched"}

    @property
    def due(self) -> bool:
        return self.state == "waiting" and not self.delayed

    @property
    def ordered(self) -> bool:
        return self.lane.startswith(FIFO)


@dataclass
class Stand:
    """An endpoint. `gate` is '', throttled, open, half_open, or probing."""

    active: bool = True
    deleted: bool = False
    paused: bool = False
    gate: str = ""
    epoch: int = 0

    @property
    def passes(self) -> bool:
        return not self.paused and not self.gate

    @property
    def usable(self) -> bool:
        return self.active and not self.deleted


@dataclass
class Track:
    """A lane."""

    fence: int | None = None
    owner: int | None = None
    blocked_by: UUID | None = None
    next_seq: int = 1

    def free(self) -> None:
        self.fence = self.owner = None


@dataclass
class Task:
    """A job."""

    status: str
    total: int | None = None
    done: int = 0
    skipped: int = 0
    failed: int = 0


@dataclass
class Order:
    """What is known of a job besides its state: its endpoint, states, finals there were at its creation, and its cursor."""

    endpoint: UUID | None
    states: frozenset[str]
    finals: frozenset[UUID]
    limit: int
    cursor: UUID


@dataclass
class Picture:
    """Everything that model and database must agree on. `places`: scheduled, outbox, fanned or cancelled."""

    parcels: dict[UUID, Parcel] = field(default_factory=dict[UUID, Parcel])
    stands: dict[UUID, Stand] = field(default_factory=dict[UUID, Stand])
    tracks: dict[tuple[UUID, str], Track] = field(default_factory=dict[tuple[UUID, str], Track])
    places: dict[UUID, str] = field(default_factory=dict[UUID, str])
    outbox: list[UUID] = field(default_factory=list[UUID])
    matched: dict[UUID, int] = field(default_factory=dict[UUID, int])
    tasks: dict[UUID, Task] = field(default_factory=dict[UUID, Task])


@dataclass
class Seen(Picture):
    """The database as it is; notices that wait in the outbox are only counted."""

    notices: int = 0


@dataclass(frozen=True)
class Letter:
    """An accepted event."""

    id: UUID
    payload: bytes
    priority: int
    scheduled: bool


@dataclass
class Model(Picture):
    """The database as it is to be, and what is only known here."""

    letters: dict[UUID, Letter] = field(default_factory=dict[UUID, Letter])
    fifo: dict[UUID, bool] = field(default_factory=dict[UUID, bool])
    blocking: dict[UUID, bool] = field(default_factory=dict[UUID, bool])
    orders: dict[UUID, Order] = field(default_factory=dict[UUID, Order])
    sent: dict[tuple[UUID, str], int] = field(default_factory=dict[tuple[UUID, str], int])
    ripe: set[UUID] = field(default_factory=set[UUID])

    # ---- looking ------------------------------------------------------------------------------------------------------

    def track(self, endpoint: UUID, key: str) -> Track:
        return self.tracks.setdefault((endpoint, key), Track())

    def of(self, endpoint: UUID) -> list[Parcel]:
        return [one for one in self.parcels.values() if one.endpoint == endpoint]

    def live(self, endpoint: UUID, lane: str) -> list[Parcel]:
        return [one for one in self.of(endpoint) if one.lane == lane and one.state not in FINAL]

    def head(self, endpoint: UUID, lane: str) -> Parcel | None:
        return min(self.live(endpoint, lane), key=lambda one: one.seq or 0, default=None)

    def passes(self, parcel: Parcel) -> bool:
        return self.stands[parcel.endpoint].passes

    def repeatable(self, parcel: Parcel) -> bool:
        """Whether a delivery that ended may get a successor: what is dead or cancelled once, what arrived always."""
        if parcel.state == "cancelled":
            return all(one.replay_of != parcel.id for one in self.parcels.values())
        return parcel.state == "delivered" or (parcel.state == "dead" and not parcel.settled)

    def finals(self, event: UUID) -> list[Parcel]:
        return sorted((one for one in self.parcels.values() if one.event == event and one.state in {"dead", "cancelled"}),
                      key=lambda one: one.id)  # fmt: skip

    def agrees(self, seen: Seen) -> None:
        """Assert that all that both know is the same."""
        for name in ("parcels", "stands", "places", "outbox", "matched", "tasks"):
            assert getattr(self, name) == getattr(seen, name), name
        plain = Track()
        assert {key: one for key, one in self.tracks.items() if one != plain} == {
            key: one for key, one in seen.tracks.items() if one != plain
        }
        firsts = [(one.event, one.endpoint) for one in seen.parcels.values() if one.first]
        assert len(firsts) == len(set(firsts))
        in_flight = [
            (one.endpoint, one.lane) for one in seen.parcels.values() if one.ordered and one.state == "sending"
        ]
        assert len(in_flight) == len(set(in_flight))

    def counts(self, stats: QueueStats, *, notices: int) -> None:
        """Assert that the queue's figures are those of the model."""
        unowned = [one for one in self.parcels.values() if one.unowned]
        scheduled = sum(place == "scheduled" for place in self.places.values())
        accepted = len(self.outbox) + notices
        delayed = [one for one in unowned if one.delayed]
        held = [one for one in unowned if not one.delayed and not self.passes(one)]
        failed = sum(one.attempts > 0 for one in unowned)
        assert stats.queued == len(unowned) - failed + accepted + scheduled
        assert stats.failed == failed
        assert stats.delivering == sum(one.state == "sending" for one in self.parcels.values())
        assert stats.delayed == len(delayed) + scheduled
        assert stats.held == len(held)
        assert stats.ready == len(unowned) - len(delayed) - len(held) + accepted
        assert stats.dead == sum(one.state == "dead" and not one.settled for one in self.parcels.values())
        assert stats.pending == stats.ready + stats.held + stats.delayed + stats.delivering

    # ---- moving -------------------------------------------------------------------------------------------------------

    def plan(self, event: UUID, endpoint: UUID, *, former: Parcel | None = None) -> tuple[int, str]:
        """Tier and lane of a new delivery; what repeats one of a FIFO lane goes there again."""
        letter = self.letters[event]
        if self.fifo[endpoint]:
            kept = former is not None and former.ordered
            return 1, former.lane if former and kept else FIFO + partition_key(PATH, letter.payload)
        tier = former.tier if former else tier_of(letter.priority)
        return tier, lane_of(tier)

    def enter(self, parcel: Parcel, *, heads: Parcel | None = None) -> None:
        """Let a new delivery wait in its lane: a FIFO lane's at the tail, or in the place of its dead head."""
        track = self.track(parcel.endpoint, parcel.lane)
        if parcel.ordered and heads is not None and track.blocked_by == heads.id:
            parcel.seq, track.blocked_by = heads.seq, None
        elif parcel.ordered:
            parcel.seq, track.next_seq = track.next_seq, track.next_seq + 1
        self.parcels[parcel.id] = parcel

    def repeat(self, finals: Iterable[Parcel], seen: Seen, *, job: UUID | None = None) -> list[Parcel]:
        """Give those that may have one a successor; their ids are Relay's to choose."""
        made: list[Parcel] = []
        for old in finals:
            if self.stands[old.endpoint].usable and self.repeatable(old):
                new = self.unknown(seen, replay_of=old.id, job=job)
                tier, lane = self.plan(old.event, old.endpoint, former=old)
                successor = Parcel(new.id, old.event, old.endpoint, lane, tier, first=False, replay_of=old.id, job=job)
                self.enter(successor, heads=old)
                self.settle(old)
                made.append(successor)
        return made

    def unknown(self, seen: Seen, *, replay_of: UUID, job: UUID | None) -> Parcel:
        """A successor that is there and was not."""
        new = [one for one in seen.parcels.values() if (one.replay_of, one.job) == (replay_of, job)]
        new = [one for one in new if one.id not in self.parcels]
        assert new, f"{replay_of} was not repeated"
        return new[0]

    def settle(self, parcel: Parcel) -> None:
        if parcel.state == "dead":
            parcel.settled = True
        self.unblock(parcel)

    def unblock(self, parcel: Parcel) -> None:
        for (endpoint, _), track in self.tracks.items():
            if endpoint == parcel.endpoint and track.blocked_by == parcel.id:
                track.blocked_by = None

    def open_lanes(self, endpoint: UUID) -> None:
        """An endpoint that is disabled or deleted has no gates and no blocked lanes."""
        for (owner, _), track in self.tracks.items():
            if owner == endpoint:
                track.blocked_by = None
        stand = self.stands[endpoint]
        stand.paused, stand.gate = False, ""

    def turn_epoch(self, endpoint: UUID, seen: Seen) -> None:
        """A transition begins another epoch, whichever."""
        epoch = seen.stands[endpoint].epoch
        assert epoch != self.stands[endpoint].epoch
        self.stands[endpoint].epoch = epoch

    def leave_in_order(self, parcel: Parcel) -> None:
        """A FIFO lane's head goes out: nothing after it did before."""
        if parcel.ordered:
            key, seq = (parcel.endpoint, parcel.lane), parcel.seq or 0
            assert self.sent.get(key, 0) <= seq, "out of order"
            self.sent[key] = seq

    def let_time_pass(self) -> None:
        """What was to be later is due, and gates that close for a time are over."""
        self.ripe |= {id for id, place in self.places.items() if place == "scheduled"}
        for parcel in self.parcels.values():
            parcel.delayed = False
        for stand in self.stands.values():
            stand.gate = {"open": "half_open", "probing": "half_open", "throttled": ""}.get(stand.gate, stand.gate)

    def chunk(self, id: UUID, seen: Seen) -> None:
        """A chunk of a running job's work."""
        task, order = self.tasks[id], self.orders[id]
        if order.endpoint is not None and not self.stands[order.endpoint].usable:
            task.status = "failed"
            return
        items = self.items(order)[: order.limit]
        if len(items) < order.limit and not self._beyond(order):
            task.status, task.total = "done", task.done + task.skipped + task.failed
            return
        usable = [one for one in items if self.stands[one.endpoint].usable]
        made = self.repeat(usable, seen, job=id)
        task.done += len(made)
        task.skipped += len(usable) - len(made)
        task.failed += len(items) - len(usable)
        order.cursor = items[-1].id if len(items) == order.limit else self._beyond(order)[-1]

    def items(self, order: Order) -> Sequence[Parcel]:
        """What of a job is ahead of it."""
        ahead = [self.parcels[id] for id in sorted(order.finals) if id > order.cursor]
        return [one for one in ahead if one.state in order.states and order.endpoint in {None, one.endpoint}]

    def _beyond(self, order: Order) -> list[UUID]:
        """The rows of the history that a job has still to look at, items or not."""
        return sorted(
            one.id
            for one in self.parcels.values()
            if one.state in FINAL and one.id > order.cursor and order.endpoint in {None, one.endpoint}
            and ("delivered" in order.states or one.state != "delivered")
        )  # fmt: skip
