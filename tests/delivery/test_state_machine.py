"""Whatever is done to deliveries, one after the other or two at once, ends as a model of their states says.

Everything that is done is Relay's own code on Postgres. After each step model and database agree on every delivery, lane,
endpoint, event and job, the queue's figures are the model's, and no lane sleeps with something to send in it. Two doings at
once must come to what one after the other comes to, in either order. In the end everything is let go, arrives, and the
ledger finds nothing.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID, uuid4

from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from relay.delivery.deliveries import DeliveryStatus
from relay.delivery.lanes import Lane
from relay.delivery.live import FIFO, Claimed, Dispatched
from relay.ids import fence
from relay.insight import counts
from relay.runtime import Web
from relay.settings import Settings
from relay.tenancy import tenants
from relay.verify.ledger import sweep
from tests.delivery.crew import NOWHERE
from tests.delivery.doings import OUTCOMES, Doing, Doings
from tests.delivery.expected import FINAL, PATH, Model, Stand
from tests.delivery.looking import look
from tests.scale import sized, tell
from tests.shop import Shop

T = TypeVar("T")
PAYLOADS = (b'{"k": "a"}', b'{"k": "b"}', b"{}")
KEYS = ("a", "b", "")
_ROUNDS = 60

which = st.integers(0, 40)
worker = st.integers(0, 1)


def chosen(some: Sequence[T], number: int) -> T:
    return some[number % len(some)]


class Deliveries(RuleBasedStateMachine):
    """One client with an ordinary and a FIFO endpoint, two workers, and the model of it all."""

    web: Web
    runner: asyncio.Runner
    steps = 0

    # ---- playing ------------------------------------------------------------------------------------------------------

    def run(self, doing: Awaitable[T]) -> T:
        async def run() -> T:
            return await doing

        return self.runner.run(run())

    async def _begin(self) -> Shop:
        async with self.web.db.transaction() as conn:
            for query in ("live", "lanes", "outbox", "scheduled", "jobs", "dead_letters"):
                await conn.execute(f"DELETE FROM {query}".encode())
            tenant, _ = await tenants.ensure(conn, f"client {uuid4()}", vault=self.web.vault)
        return Shop(self.web, tenant.id)

    @initialize(blocks=st.booleans())
    def begin(self, blocks: bool) -> None:  # noqa: FBT001
        self.model, self.blocks = Model(), blocks
        self.shop = self.run(self._begin())
        self.doings = Doings(self.shop)
        self.workers = [fence(), fence()]
        self.messages: list[Dispatched] = []
        self.claimed: list[Claimed] = []
        self.offered: list[Lane] = []
        self.held: list[tuple[Lane, int]] = []
        self.endpoints = [self._endpoint(fifo=False), self._endpoint(fifo=True)]

    def _endpoint(self, *, fifo: bool) -> UUID:
        order = {"fifo_partition_key": PATH, "fifo_on_dead": "block" if self.blocks else "park"} if fifo else {}
        id = self.run(self.shop.endpoint(NOWHERE, fifo=fifo, **order))
        self.model.stands[id] = Stand(epoch=self.run(self._look()).stands[id].epoch)
        self.model.fifo[id], self.model.blocking[id] = fifo, fifo and self.blocks
        return id

    async def _look(self) -> Any:
        async with self.web.db.connection() as conn:
            return await look(conn, self.shop.tenant_id)

    def play(self, doing: Doing[Any]) -> None:
        """Do one thing, and see that it came to what it had to."""
        Deliveries.steps += 1
        self.run(self._play(doing))

    async def _play(self, doing: Doing[Any]) -> None:
        result = await doing.attempt()
        note(f"{doing.name}: {result}")
        seen = await self._look()
        doing.expect(self.model, result, seen)
        self.model.agrees(seen)
        doing.kept(result)

    def race(self, first: Doing[Any], second: Doing[Any]) -> None:
        """Do two things at once: it must have been one after the other."""
        Deliveries.steps += 1
        self.run(self._race(first, second))

    async def _race(self, *both: Doing[Any]) -> None:
        results = await asyncio.gather(*(one.attempt() for one in both))
        note(f"{both[0].name}: {results[0]}; at once {both[1].name}: {results[1]}")
        seen = await self._look()
        refusals: list[AssertionError] = []
        for order in ((0, 1), (1, 0)):
            model = copy.deepcopy(self.model)
            try:
                for turn in order:
                    both[turn].expect(model, results[turn], seen)
                model.agrees(seen)
            except AssertionError as refusal:
                refusals.append(refusal)
                continue
            self.model = model
            for one, result in zip(both, results, strict=True):
                one.kept(result)
            return
        raise AssertionError(f"{both[0].name} and {both[1].name}: {refusals[0]}\nor: {refusals[1]}") from refusals[1]

    @invariant()
    def queue_stats_are_the_models(self) -> None:
        if hasattr(self, "endpoints"):
            self.run(self._check_counts())

    async def _check_counts(self) -> None:
        seen = await self._look()
        async with self.web.db.connection() as conn:
            await counts.refresh(conn)
            self.model.counts(await counts.queue_stats(conn, self.shop.tenant_id), notices=seen.notices)

    # ---- intake -------------------------------------------------------------------------------------------------------

    @rule(payloads=st.lists(st.sampled_from(PAYLOADS), min_size=1, max_size=3), priority=st.sampled_from([1, 5, 9]))
    def accept(self, payloads: list[bytes], priority: int) -> None:
        self.play(self.doings.accept(payloads, priority=priority, scheduled=False))

    @rule(payload=st.sampled_from(PAYLOADS))
    def accept_scheduled(self, payload: bytes) -> None:
        self.play(self.doings.accept([payload], priority=5, scheduled=True))

    @rule(window=st.sampled_from([0, 1, 4000]))
    def fan_out(self, window: int) -> None:
        self.play(self._fan_out(window))

    def _fan_out(self, window: int = 4000) -> Doing[Any]:
        return self.doings.fan_out(self.messages.extend, window=window)

    @rule()
    def an_hour_passes(self) -> None:
        self.play(self.doings.hour())

    @rule()
    def come_due(self) -> None:
        self.play(self.doings.come_due())

    @precondition(lambda self: self.model.letters)
    @rule(n=which)
    def cancel_scheduled(self, n: int) -> None:
        self.play(self.doings.cancel_scheduled(self._event(n)))

    def _event(self, n: int) -> UUID:
        return chosen(sorted(self.model.letters, reverse=True), n)

    # ---- workers ------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.messages)
    @rule(w=worker, n=which, count=st.integers(1, 4))
    def claim(self, w: int, n: int, count: int) -> None:
        """Any messages, old and doubled ones included."""
        self.play(self._claim(w, n, count))

    def _claim(self, w: int, n: int, count: int) -> Doing[Any]:
        start = n % len(self.messages)
        messages = self.messages[start : start + count]
        return self.doings.claim(list({one.id: one for one in messages}.values()), self.workers[w], self.claimed.extend)

    @precondition(lambda self: self.messages)
    @rule()
    def park(self) -> None:
        self.play(self.doings.park(self.messages[-4:]))

    @rule()
    def hand_out(self) -> None:
        self.play(self.doings.hand_out(self.offered.extend))

    @precondition(lambda self: self.offered)
    @rule(w=worker, n=which)
    def hold(self, w: int, n: int) -> None:
        lane = chosen(self.offered, n)
        self.play(self._hold(lane, self.workers[w]))

    def _hold(self, lane: Lane, no: int) -> Doing[Any]:
        def keep(ours: bool) -> None:  # noqa: FBT001
            if ours:
                self.held.append((lane, no))

        return self.doings.hold(lane, no, keep)

    @rule(w=worker)
    def hand_out_and_take(self, w: int) -> None:
        """What usually happens to lanes that are due."""
        self.hand_out()
        for lane in self.offered[-3:]:
            self.play(self._hold(lane, self.workers[w]))
        for lane, no in self.held[-3:]:
            self.play(self._take(lane, no, 2))

    @precondition(lambda self: self.held)
    @rule(n=which, limit=st.integers(1, 3))
    def take(self, n: int, limit: int) -> None:
        self.play(self._take(*chosen(self.held, n), limit))

    def _take(self, lane: Lane, no: int, limit: int) -> Doing[Any]:
        return self.doings.take(lane, no, self.claimed.extend, limit=limit)

    @precondition(lambda self: self.held)
    @rule(n=which)
    def release_lane(self, n: int) -> None:
        self.play(self.doings.release_lane(*self.held.pop(n % len(self.held))))

    @precondition(lambda self: self.claimed)
    @rule(n=which, kind=st.sampled_from(sorted(OUTCOMES)))
    def record(self, n: int, kind: str) -> None:
        """Any that was ever claimed: the same outcome twice, and late ones, change nothing."""
        self.play(self.doings.record(self._claimed(n), kind))

    def _claimed(self, n: int) -> Claimed:
        return self.claimed[-1 - n % len(self.claimed)]

    @precondition(lambda self: self.claimed)
    @rule(n=which)
    def put_back(self, n: int) -> None:
        self.play(self.doings.put_back(self._claimed(n)))

    @rule(w=worker)
    def give_back(self, w: int) -> None:
        self.play(self.doings.give_back(self.workers[w]))
        self.workers[w] = fence()

    @rule()
    def resend(self) -> None:
        self.play(self.doings.resend(self.messages.extend))

    # ---- endpoints ----------------------------------------------------------------------------------------------------

    @rule(n=which)
    def pause(self, n: int) -> None:
        self.play(self.doings.pause(chosen(self.endpoints, n)))

    @rule(n=which, rate=st.sampled_from([None, 10_000]))
    def resume(self, n: int, rate: int | None) -> None:
        self.play(self.doings.resume(chosen(self.endpoints, n), rate=rate))

    @rule(n=which)
    def disable(self, n: int) -> None:
        self.play(self.doings.disable(chosen(self.endpoints, n)))

    @precondition(lambda self: len(self.endpoints) < 4)
    @rule(n=which)
    def delete(self, n: int) -> None:
        """Another one of its kind comes in its place."""
        id = chosen(self.endpoints, n)
        self.play(self.doings.delete(id))
        self.endpoints.append(self._endpoint(fifo=self.model.fifo[id]))

    @rule(n=which, how=st.sampled_from(["open", "open", "close", "reopen", "throttle"]))
    def move_gate(self, n: int, how: str) -> None:
        self.play(self._move_gate(chosen(self.endpoints, n), how))

    def _move_gate(self, id: UUID, how: str) -> Doing[Any]:
        return self.doings.move_gate(how, id, self.model.stands[id].epoch)

    @precondition(lambda self: self.claimed)
    @rule(n=which, how=st.sampled_from(["open", "close", "reopen"]))
    def move_gate_late(self, n: int, how: str) -> None:
        one = self._claimed(n)
        self.play(self.doings.move_gate(how, one.endpoint_id, one.epoch))

    # ---- recovery -----------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.model.parcels)
    @rule(n=which)
    def cancel(self, n: int) -> None:
        self.play(self.doings.cancel(self._parcel(n)))

    def _parcel(self, n: int) -> UUID:
        return chosen(list(reversed(self.model.parcels)), n)

    @precondition(lambda self: self.model.parcels)
    @rule(n=which)
    def retry(self, n: int) -> None:
        self.play(self.doings.retry(self._parcel(n)))

    @precondition(lambda self: self.model.letters)
    @rule(n=which)
    def replay_event(self, n: int) -> None:
        self.play(self.doings.replay_event(self._event(n)))

    @precondition(lambda self: self.model.letters)
    @rule(n=which, e=which)
    def replay_to(self, n: int, e: int) -> None:
        self.play(self.doings.replay_to(self._event(n), chosen(self.endpoints, e)))

    @rule(n=which, key=st.sampled_from(KEYS), how=st.sampled_from(["move", "cancel"]))
    def drain_fifo(self, n: int, key: str, how: str) -> None:
        self.play(self.doings.drain_fifo(self._ordered(n), key, how))

    def _ordered(self, n: int) -> UUID:
        return chosen([id for id in self.endpoints if self.model.fifo[id]], n)

    @rule(n=which, key=st.sampled_from(KEYS))
    def release_fifo(self, n: int, key: str) -> None:
        self.play(self.doings.release_fifo(self._ordered(n), key))

    # ---- jobs ---------------------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.model.tasks) < 4)
    @rule(e=st.none() | which, more=st.sets(st.sampled_from(["CANCELLED", "DELIVERED"])), rate=st.sampled_from([None, 4, 8]))
    def start_job(self, e: int | None, more: set[str], rate: int | None) -> None:
        statuses = [DeliveryStatus.DEAD, *(DeliveryStatus[one] for one in sorted(more))]
        endpoint = None if e is None else chosen(self.endpoints, e)
        self.play(self.doings.start_job(endpoint, statuses, rate=rate))

    @precondition(lambda self: self.model.tasks)
    @rule(n=which)
    def run_chunk(self, n: int) -> None:
        id = self._task(n)
        self.play(self.doings.count_job(id))
        self.play(self.doings.run_chunk(id))

    def _task(self, n: int) -> UUID:
        return chosen(list(self.model.tasks), n)

    @precondition(lambda self: self.model.tasks)
    @rule(n=which, how=st.sampled_from(["pause", "resume", "cancel"]))
    def move_job(self, n: int, how: str) -> None:
        self.play(self.doings.move_job(self._task(n), how))
