"""Following: the next head of a FIFO lane is taken in the transaction that records the one before, and sent after its commit.

So a lane costs one transaction a delivery, and goes on as fast as its endpoint answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from relay.db import Conn
from relay.delivery.beats import Beats
from relay.delivery.deliver import Cargo, Deliverer
from relay.delivery.holdings import Holdings, Key
from relay.delivery.live import Claimed
from relay.delivery.record import Recorded
from relay.delivery.take import Taken, Want, lock, take_heads


class Follower(Protocol):
    """The holder of a FIFO lane, who keeps its seat while its lane goes on."""

    @property
    def goes_on(self) -> bool:
        """Whether it wants the next head as well."""
        ...

    def hear(self, taken: Taken) -> None:
        """Learn that nothing was sent after the last head, and why."""
        ...

    def done(self) -> None:
        """Learn that the last head is recorded, put back or dropped."""
        ...


@dataclass(frozen=True, slots=True)
class _Next:
    """What is to follow a head that is being recorded."""

    head: Key
    want: Want
    follower: Follower


class Following:
    """Knows which heads of this process have somebody who wants what comes after them."""

    def __init__(self, deliverer: Deliverer, *, beats: Beats, holdings: Holdings) -> None:
        self._deliverer = deliverer
        self._beats = beats
        self._holdings = holdings
        self._expected: dict[Key, _Next] = {}

    def send(self, head: Claimed, cargo: Cargo, want: Want, follower: Follower, *, generation: int) -> bool:
        """Send a head in its holder's seat, and expect its record; False if it is not to be sent."""
        key = (head.id, head.fence)
        self._expected[key] = _Next(key, replace(want, probes=False, alone=False), follower)

        def done() -> None:
            self._expected.pop(key, None)
            follower.done()

        if self._deliverer.send_seated(head, cargo, generation=generation, done=done):
            return True
        del self._expected[key]
        return False

    def step(self, recorded: Sequence[Recorded]) -> Step | None:
        """What is to follow these heads; None when nobody wants anything."""
        found = (self._expected.get((one.delivery.id, one.delivery.fence)) for one in recorded)
        nexts = [one for one in found if one is not None and one.follower.goes_on]
        if not nexts:
            return None
        return Step(
            self, self._deliverer, self._holdings, nexts, worker=self._beats.no, generation=self._beats.generation
        )

    def drop(self, head: Key) -> None:
        """Expect nothing of a head any more: what follows it is on its way."""
        self._expected.pop(head, None)


class Step:
    """One transaction's step from recorded heads to the next ones."""

    def __init__(
        self,
        following: Following,
        deliverer: Deliverer,
        holdings: Holdings,
        nexts: Sequence[_Next],
        *,
        worker: int,
        generation: int,
    ) -> None:
        self._following = following
        self._deliverer = deliverer
        self._holdings = holdings
        self._nexts = nexts
        self._worker = worker
        self._generation = generation
        self._taken: list[Taken] = []
        self._keys: list[Key] = []
        self._cargo = Cargo({}, {})

    async def lock(self, conn: Conn) -> None:
        """Lock the lanes; the first thing in the transaction of the records."""
        await lock(conn, [one.want for one in self._nexts])

    async def take(self, conn: Conn) -> set[Key]:
        """Take the next heads; after the records of the last ones, in their transaction. Returns the ones followed.

        The lane of such a one is this worker's still, and its head is on its way: nobody needs a ring.
        """
        self._taken = await take_heads(conn, [one.want for one in self._nexts], worker=self._worker)
        claimed = [one for answer in self._taken for one in answer.claimed]
        self._keys = self._holdings.enter((one.id, one.fence) for one in claimed)
        if claimed:
            self._cargo = await self._deliverer.load(conn, claimed)
        return {one.head for one, taken in zip(self._nexts, self._taken, strict=True) if taken.claimed}

    def undo(self) -> None:
        """The commit failed, or nobody knows: what it took is not in memory, and the beat gives it back."""
        self._holdings.forget(self._keys)

    def give_up(self) -> None:
        """Leave it to the holders: they hear of the records, and ask themselves."""
        for one in self._nexts:
            self._following.drop(one.head)

    def send(self) -> set[Key]:
        """Send what was taken, right after the commit; return the heads whose holders need not hear of their record."""
        followed: set[Key] = set()
        for one, taken in zip(self._nexts, self._taken, strict=True):
            if taken.claimed and self._following.send(
                taken.claimed[0], self._cargo, one.want, one.follower, generation=self._generation
            ):
                self._following.drop(one.head)
                followed.add(one.head)
            else:
                one.follower.hear(taken)
        return followed
