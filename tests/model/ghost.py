"""A ghost that sees every commit and every POST, knows what nobody in the system can know, and judges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from tests.model.postgres import Key
from tests.model.rows import BLOCKING, Claim, Delivery, Lane, LaneId, Violation

NOTICED_AFTER_S = 2.5
#: From the commit of a take to the POST of a head, when nothing is frozen.
_ON_ITS_WAY_S = 0.05
_IN_VAIN_AT_MOST = 4


class Sends(Protocol):
    """A process, as far as the ghost has to do with it."""

    alive: bool
    stopped_until: float


@dataclass(frozen=True, slots=True)
class _Probe:
    claim: Claim
    process: Sends
    began: float


class Ghost:
    """Raises Violation when a promise is broken."""

    def __init__(self) -> None:
        self.accepted: set[int] = set()
        self.cancelled: set[int] = set()
        self._posts: dict[tuple[int, int], float] = {}
        self._harm_until = -1.0
        self._crashed_at = -1.0
        self._noticed_by = -1.0
        self._released: dict[int, float] = {}
        self._last_seq: dict[LaneId, int] = {}
        self._blocked: dict[LaneId, int] = {}
        self._paused: dict[str, set[tuple[int, int]]] = {}
        self._opened_at: dict[str, float] = {}
        self._moved_at: dict[str, float] = {}
        self._probes: dict[str, list[_Probe]] = {}
        self._in_vain = Counter[LaneId]()

    # ---- what it is told -----------------------------------------------------------------------------------------------

    def harm(self, until: float) -> None:
        """A fault that may repeat what was under way then: kill, stop, crash, lost reply."""
        self._harm_until = max(self._harm_until, until)

    def crash(self, at: float, *, back_at: float) -> None:
        """Postgres crashed; its workers notice at their next statement, which is a beat at the latest."""
        self.harm(back_at)
        self._crashed_at, self._noticed_by = at, back_at + NOTICED_AFTER_S

    def pause(self, endpoint: str, in_flight: Iterable[tuple[int, int]]) -> None:
        """A pause was answered while these deliveries (id, fence) were owned."""
        self._paused[endpoint] = set(in_flight)

    def resume(self, endpoint: str) -> None:
        """Somebody begins to resume an endpoint."""
        self._paused.pop(endpoint, None)
        self._in_vain.clear()

    # ---- commits -------------------------------------------------------------------------------------------------------

    def see(self, changes: dict[Key, Any], before: dict[Key, Any], now: float) -> None:
        """A transaction commits."""
        for (table, id), row in changes.items():
            old = before[table, id]
            match row:
                case Delivery(released_fence=int(fence)) if fence != old.released_fence:
                    self._released[fence] = now
                case Lane() if old is not None:
                    self._see_lane(id, row, old, now)
                case "dead":
                    self._see_dead(before["live", id])
                case _:
                    pass

    def _see_lane(self, lane: LaneId, row: Lane, old: Lane, now: float) -> None:
        if old.blocked_by is not None and row.blocked_by is None:
            self._blocked.pop(lane, None)
        if row.epoch != old.epoch:
            self._see_circuit(lane[0], row, now)

    def _see_circuit(self, endpoint: str, gate: Lane, now: float) -> None:
        self._moved_at[endpoint] = now
        self._in_vain.clear()
        if gate.open_until is None:
            self._opened_at.pop(endpoint, None)
        else:
            self._opened_at.setdefault(endpoint, now)

    def _see_dead(self, row: Delivery) -> None:
        if row.lane[0] == BLOCKING and row.seq is not None:
            self._blocked[row.lane] = row.seq

    # ---- judgments -----------------------------------------------------------------------------------------------------

    def post(self, claim: Claim, row: Delivery | None, *, process: Sends, now: float) -> None:
        """A delivery leaves for its endpoint, and `row` is what Postgres has of it.

        The known exceptions: a claim that a crash forgot, and a worker that has not noticed the crash: nobody can tell it
        apart, for as long as a beat. And a head that releaseFIFOLock took from its worker between commit and POST.
        """
        excused = (claim.made_at <= self._crashed_at and now < self._noticed_by) or self._let_go(claim, process)
        if not excused:
            self._judge_ownership(claim, row)
            self._judge_gates(claim)
        if claim.seq is not None and not excused:
            self._judge_order(claim, claim.seq)
        earlier = self._posts.setdefault((claim.id, claim.attempts), claim.made_at)
        harmless = self._harm_until < min(earlier, claim.made_at) and not self._released
        if earlier != claim.made_at and harmless:
            raise Violation(
                f"attempt {claim.attempts + 1} of delivery {claim.id} was sent twice and no fault explains it"
            )
        if claim.probes:
            self._judge_probe(claim, process, now)

    def _let_go(self, claim: Claim, process: Sends) -> bool:
        at = self._released.get(claim.fence)
        return at is not None and (at - claim.made_at <= _ON_ITS_WAY_S or process.stopped_until > claim.made_at)

    def _judge_ownership(self, claim: Claim, row: Delivery | None) -> None:
        if claim.id in self.cancelled:
            raise Violation(f"delivery {claim.id} was sent after its cancellation was answered")
        if row is not None and (row.fence, row.owner) != (claim.fence, claim.no):
            raise Violation(f"delivery {claim.id} was sent by a worker that does not own it: {row}")

    def _judge_gates(self, claim: Claim) -> None:
        endpoint = claim.lane[0]
        if (claim.id, claim.fence) not in self._paused.get(endpoint, {(claim.id, claim.fence)}):
            raise Violation(f"delivery {claim.id} was sent after the pause of {endpoint} was answered without it")
        if not claim.probes and self._opened_at.get(endpoint, claim.read_at) < claim.read_at:
            raise Violation(f"delivery {claim.id} was sent to {endpoint}, whose circuit is open")

    def _judge_order(self, claim: Claim, seq: int) -> None:
        last = self._last_seq.get(claim.lane, 0)
        if seq < last:
            raise Violation(f"number {seq} of {claim.lane} was sent after number {last}")
        if seq > self._blocked.get(claim.lane, seq):
            raise Violation(f"number {seq} of {claim.lane} was sent although {self._blocked[claim.lane]} blocks it")
        self._last_seq[claim.lane] = seq

    def _judge_probe(self, claim: Claim, process: Sends, now: float) -> None:
        """At most one at a time, but for one whose claim a crash forgot, and one whose process is dead or was frozen."""
        others = [
            one
            for one in self._probes.get(claim.lane[0], [])
            if one.process.alive and one.process.stopped_until < one.claim.read_at and one.began > self._crashed_at
        ]
        if others and process.stopped_until < claim.read_at:
            raise Violation(f"{claim.lane[0]} is probed twice at once: {others[0].claim} and {claim}")
        self._probes[claim.lane[0]] = [*others, _Probe(claim, process, now)]

    def answered(self, claim: Claim) -> None:
        """A POST has its answer."""
        probes = self._probes.get(claim.lane[0], [])
        self._probes[claim.lane[0]] = [one for one in probes if one.claim is not claim]

    def move_circuit(self, claim: Claim) -> None:
        """A circuit opens or closes because of what became of a claim."""
        if claim.read_at < self._moved_at.get(claim.lane[0], 0.0):
            raise Violation(
                f"the circuit of {claim.lane[0]} was moved by delivery {claim.id}, sent before its last move"
            )

    def put_back(self, claim: Claim, row: Delivery) -> None:
        """A delivery goes back to its lane, because of what became of a claim."""
        if row.owner not in (None, claim.no):
            raise Violation(f"delivery {claim.id} was taken from the worker that owns it: {row}")

    def let_go(self, lane: LaneId, *, asked: int, taken: int, due: float | None) -> None:
        """A worker lets go of a lane for which it has asked so often, and got so many, until its next is due."""
        self._in_vain[lane] = self._in_vain[lane] + 1 if asked and not taken and due is not None else 0
        if self._in_vain[lane] > _IN_VAIN_AT_MOST:
            raise Violation(f"{lane} goes round in circles: nothing was to be had in it {self._in_vain[lane]} times")


def is_asleep(lane: Lane | None, gate: Lane, rows: Iterable[Delivery], *, now: float) -> bool:
    """Whether a lane with these rows sleeps although one of them could be sent."""
    waiting = sorted(rows, key=lambda row: (row.seq or 0, row.due_at is None, row.due_at or 0.0))
    if not waiting or waiting[0].due_at is None or waiting[0].due_at > now or gate.paused:
        return False
    if lane is None:
        return True
    if lane.fence is not None or lane.blocked_by is not None:
        return False
    return lane.ready_at is None or (lane.ready_at > now and gate.open_until is None)
