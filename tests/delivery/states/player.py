"""Plays what the rules of tests/delivery/test_state_machine.py choose, one thing after the other or two at once."""

from __future__ import annotations

import asyncio
import copy
import sys
import traceback
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar
from uuid import UUID, uuid4

from hypothesis.stateful import RuleBasedStateMachine

from relay.catalog.endpoints import FIFOHeadPolicy
from relay.delivery.lanes import Lane
from relay.delivery.live import Claimed, Dispatched
from relay.ids import fence
from relay.insight import counts
from relay.runtime import Web
from relay.tenancy import tenants
from relay.verify.ledger import sweep
from tests.delivery.crew import NOWHERE
from tests.delivery.states.control import Control
from tests.delivery.states.doing import Doing
from tests.delivery.states.intake import Intake
from tests.delivery.states.look import look
from tests.delivery.states.model import FINAL, PATH, Model, Stand
from tests.delivery.states.recover import Recovery
from tests.delivery.states.work import Work
from tests.shop import Shop

T = TypeVar("T")
KEYS = ("a", "b", "")
_ROUNDS = 12


def chosen(some: Sequence[T], number: int) -> T:
    return some[number % len(some)]


class Doings(Intake, Work, Control, Recovery):
    """All that can be done."""


class Player(RuleBasedStateMachine):
    """One client with an ordinary and a FIFO endpoint, two workers, and the model of it all."""

    web: Web
    runner: asyncio.Runner
    steps = 0
    #: Model and database agree; where they did not, nothing is drained.
    sound = False

    def start(self, *, blocks: bool) -> None:
        self.model, self.blocks, self.notices = Model(), blocks, 0
        self.journal: list[str] = []
        self.shop = self.run(self._begin())
        self.doings = Doings(self.shop)
        self.workers = [fence(), fence()]
        self.messages: list[Dispatched] = []
        self.claimed: list[Claimed] = []
        self.offered: list[Lane] = []
        self.held: list[tuple[Lane, int]] = []
        self.endpoints = [self._endpoint(fifo=False), self._endpoint(fifo=True)]

    def run(self, doing: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(doing)

    async def _begin(self) -> Shop:
        async with self.web.db.transaction() as conn:
            for query in ("live", "lanes", "outbox", "scheduled", "jobs", "dead_letters"):
                await conn.execute(f"DELETE FROM {query}".encode())
            tenant, _ = await tenants.ensure(conn, f"client {uuid4()}", vault=self.web.vault)
        return Shop(self.web, tenant.id)

    def _endpoint(self, *, fifo: bool) -> UUID:
        on_dead = FIFOHeadPolicy.BLOCK if self.blocks else FIFOHeadPolicy.PARK
        order = {"fifo": True, "fifo_partition_key": PATH, "fifo_on_dead": on_dead} if fifo else {}
        id = self.run(self.shop.endpoint(NOWHERE, **order))
        self.model.stands[id] = Stand(epoch=self.run(self._look()).stands[id].epoch)
        self.model.fifo[id], self.model.blocking[id] = fifo, fifo and self.blocks
        return id

    async def _look(self) -> Any:
        async with self.web.db.connection() as conn:
            seen = await look(conn, self.shop.tenant_id)
        self.notices = seen.notices
        return seen

    def play(self, doing: Doing[Any]) -> None:
        """Do one thing, and see that it came to what it had to."""
        self._watch(self._play(doing))

    async def _play(self, doing: Doing[Any]) -> None:
        result = await doing.attempt()
        self.journal.append(f"{doing.name}: {result}")
        seen = await self._look()
        doing.expect(self.model, result, seen)
        self.model.agrees(seen)
        doing.kept(result)

    def race(self, first: Doing[Any], second: Doing[Any]) -> None:
        """Do two things at once: it must have been one after the other."""
        self._watch(self._race(first, second))

    async def _race(self, *both: Doing[Any]) -> None:
        results = await asyncio.gather(*(one.attempt() for one in both))
        self.journal.append(f"{both[0].name}: {results[0]}; at once {both[1].name}: {results[1]}")
        seen = await self._look()
        refusals: list[str] = []
        for order in ((0, 1), (1, 0)):
            model = copy.deepcopy(self.model)
            try:
                for turn in order:
                    both[turn].expect(model, results[turn], seen)
                model.agrees(seen)
            except AssertionError as refusal:
                refusals.append(f"{both[order[0]].name} first: {refusal}")
                continue
            self.model = model
            for one, result in zip(both, results, strict=True):
                one.kept(result)
            return
        raise AssertionError("\n".join(refusals))

    def _watch(self, doing: Coroutine[Any, Any, None]) -> None:
        """Do it; what fails may depend on time and never be seen again, so the way there is printed at once."""
        type(self).steps += 1
        self.sound = False
        try:
            self.runner.run(doing)
        except Exception:
            print("\n".join(self.journal))
            traceback.print_exc(file=sys.stdout)
            raise
        self.sound = True

    async def _check_counts(self) -> None:
        async with self.web.db.connection() as conn:
            await counts.refresh(conn)
            self.model.counts(await counts.queue_stats(conn, self.shop.tenant_id), notices=self.notices)

    # ---- what rules choose from ----------------------------------------------------------------------------------------

    def _fan_out(self, window: int = 4000) -> Doing[Any]:
        return self.doings.fan_out(self.messages.extend, window=window)

    def _event(self, n: int) -> UUID:
        return chosen(sorted(self.model.letters, reverse=True), n)

    def _claim(self, w: int, n: int, count: int) -> Doing[Any]:
        start = n % len(self.messages)
        messages = self.messages[start : start + count]
        return self.doings.claim(list({one.id: one for one in messages}.values()), self.workers[w], self.claimed.extend)

    def _hold(self, lane: Lane, no: int) -> Doing[Any]:
        def keep(ours: bool) -> None:
            if ours:
                self.held.append((lane, no))

        return self.doings.hold(lane, no, keep)

    def _being_sent(self) -> list[Claimed]:
        return [one for one in self.claimed if self.model.parcels[one.id].fence == one.fence]

    def _take(self, lane: Lane, no: int, limit: int, *, least: int | None = None) -> Doing[Any]:
        return self.doings.take(lane, no, self.claimed.extend, limit=limit, least=least)

    def _claimed(self, n: int) -> Claimed:
        return chosen((self._being_sent() if n % 3 else None) or self.claimed[::-1], n)

    def _move_gate(self, id: UUID, how: str) -> Doing[Any]:
        return self.doings.move_gate(how, id, self.model.stands[id].epoch)

    def _replace(self, id: UUID) -> None:
        """The deleted one stays among those that things are done to."""
        if len(self.endpoints) < 4:
            self.endpoints.append(self._endpoint(fifo=self.model.fifo[id]))

    def _parcel(self, n: int) -> UUID:
        return chosen(list(reversed(self.model.parcels)), n)

    def _ordered(self, n: int) -> UUID:
        return chosen([id for id in self.endpoints if self.model.fifo[id]], n)

    def _task(self, n: int) -> UUID:
        return chosen(list(self.model.tasks), n)

    # ---- the end ------------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        """Let everything go, send what waits until nothing does, and ask the ledger."""
        if not self.sound:
            return
        for no in self.workers:
            self.play(self.doings.give_back(no))
        self.workers = [fence(), fence()]
        self._let_go()
        for _ in range(_ROUNDS):
            if self._over():
                break
            self._round()
        assert self._over(), f"something is stuck: {self._open()}"
        self.run(self._ask_the_ledger())

    def _let_go(self) -> None:
        for id, stand in self.model.stands.items():
            if not stand.deleted:
                self.play(self.doings.resume(id, rate=None))
            if self.model.fifo[id]:
                for key in KEYS:
                    self.play(self.doings.release_fifo(id, key))
        for id, task in list(self.model.tasks.items()):
            if task.status == "paused":
                self.play(self.doings.move_job(id, "resume"))
        self.play(self.doings.hour())
        self.play(self.doings.come_due())
        self.play(self._fan_out())

    def _over(self) -> bool:
        return self._open() == []

    def _open(self) -> list[object]:
        jobs = [one for one in self.model.tasks.values() if one.status in {"waiting", "running"}]
        parcels = [one for one in self.model.parcels.values() if one.state not in FINAL]
        return [*jobs, *((one, self.model.tracks.get((one.endpoint, one.lane))) for one in parcels)]

    def _round(self) -> None:
        for id in list(self.model.tasks):
            self.play(self.doings.count_job(id))
            self.play(self.doings.run_chunk(id))
        self.messages.clear()
        self.offered.clear()
        self.held.clear()
        self.play(self.doings.resend(self.messages.extend))
        if self.messages:
            self.play(self.doings.park(self.messages))
            self.play(self.doings.claim(self.messages, self.workers[0], self.claimed.extend))
        self.play(self.doings.resend_lanes(self.offered.extend))
        self.play(self.doings.hand_out(self.offered.extend))
        for lane in self.offered:
            self.play(self._hold(lane, self.workers[0]))
        for lane, no in self.held:
            before = None
            while before != len(self.claimed):
                before = len(self.claimed)
                self.play(self._take(lane, no, 100))
                self._deliver_all()
            self.play(self.doings.release_lane(lane, no))
        self.play(self.doings.hour())

    def _deliver_all(self) -> None:
        """Everything that is being sent arrives, and a probe that does closes its circuit."""
        for one in self._being_sent():
            self.play(self.doings.record(one, "delivered"))
            if self.model.stands[one.endpoint_id].gate == "probing":
                self.play(self.doings.move_gate("close", one.endpoint_id, one.epoch))

    async def _ask_the_ledger(self) -> None:
        found = [one async for one in sweep(self.web.db, since=self.doings.since, keep_days=30)]
        assert [one.offenders for one in found if one.count] == []
