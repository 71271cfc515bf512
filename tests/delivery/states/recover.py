"""Cancelling, retrying, replaying and jobs, by Relay's own functions."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from uuid import UUID

from relay.delivery.deliveries import DeliveryStatus
from relay.errors import NotFound, RelayError
from relay.recovery import jobs
from relay.recovery.cancel import cancel
from relay.recovery.job_runner import JobRunner
from relay.recovery.replay import replay_event, replay_to
from relay.recovery.replay_spec import ReplaySpec
from relay.recovery.retry import retry
from relay.recovery.start_replay import start_replay
from tests.delivery.states.doing import Client, Doing, decided, good
from tests.delivery.states.model import FINAL, Model, Order, Parcel, Seen, Task


class Recovery(Client):
    """What clients do about deliveries."""

    def cancel(self, id: UUID) -> Doing[None]:
        async def do() -> None:
            async with self.db.transaction() as conn:
                await cancel(conn, self.tenant, id)

        def expect(model: Model, result: object, _: Seen) -> None:
            parcel = model.parcels[id]
            if decided(result, wins=parcel.unowned or (parcel.state == "dead" and not parcel.settled)):
                if parcel.unowned:
                    parcel.end("cancelled")
                else:
                    model.settle(parcel)

        return Doing("cancel", do, expect)

    def retry(self, id: UUID) -> Doing[UUID]:
        async def do() -> UUID:
            async with self.db.transaction() as conn:
                return await retry(conn, self.tenant, id, ids=self.ids)

        def expect(model: Model, result: UUID | RelayError, seen: Seen) -> None:
            parcel = model.parcels[id]
            if parcel.unowned:
                if decided(result, wins=parcel.attempts > 0):
                    assert result == id
                    parcel.delayed = False
            elif parcel.state in {"dead", "cancelled"}:
                possible = model.stands[parcel.endpoint].usable and model.repeatable(parcel)
                if decided(result, wins=possible):
                    assert model.repeat([parcel], seen)[0].id == result
            else:
                decided(result, wins=False)

        return Doing("retry", do, expect)

    def replay_event(self, event: UUID, *, known: Collection[UUID] | None = None) -> Doing[None]:
        """Repeat what of an event has ended; `known`: that had, while others may end just now and be repeated or not."""

        async def do() -> None:
            async with self.db.transaction() as conn:
                await replay_event(conn, self.tenant, event, ids=self.ids)

        def expect(model: Model, result: object, seen: Seen) -> None:
            finals = model.finals(event)
            possible = [one for one in finals if model.stands[one.endpoint].usable and model.repeatable(one)]
            late = {one.id for one in possible if known is not None and one.id not in known}
            if late.isdisjoint(one.replay_of for one in seen.parcels.values()):
                possible = [one for one in possible if one.id not in late]
            if decided(result, wins=bool(possible)):
                assert len(model.repeat(possible, seen)) == len(possible)

        return Doing("replay event", do, expect)

    def replay_to(self, event: UUID, endpoint: UUID) -> Doing[UUID]:
        async def do() -> UUID:
            async with self.db.transaction() as conn:
                return await replay_to(conn, self.tenant, event, endpoint, ids=self.ids)

        def expect(model: Model, result: UUID | RelayError, _: Seen) -> None:
            stand = model.stands[endpoint]
            if stand.deleted:
                assert isinstance(result, NotFound)
                return
            of = [one for one in model.of(endpoint) if one.event == event]
            newest = max(of, key=lambda one: one.id, default=None)
            if decided(result, wins=stand.usable):
                tier, lane = model.plan(event, endpoint, former=newest)
                old = newest.id if newest else None
                model.enter(Parcel(good(result), event, endpoint, lane, tier, first=False, replay_of=old), heads=newest)
                if newest:
                    model.settle(newest)

        return Doing("replay to", do, expect)

    def runner(self) -> JobRunner:
        return JobRunner(self.db, self.shop.web.queue, ids=self.ids)

    def start_job(self, endpoint: UUID | None, statuses: list[DeliveryStatus], *, rate: int | None) -> Doing[UUID]:
        async def do() -> UUID:
            hour = timedelta(hours=1)
            spec = ReplaySpec(
                since=self.since - hour,
                until=self.since + hour,
                endpoint_id=endpoint,
                statuses=statuses,
                rate_per_sec=rate,
            )
            return (await start_replay(self.db, self.tenant, spec, id=self.ids())).id

        def expect(model: Model, result: UUID | RelayError, _: Seen) -> None:
            stand = model.stands[endpoint] if endpoint else None
            if stand and stand.deleted:
                assert isinstance(result, NotFound)
            elif decided(result, wins=stand is None or stand.active):
                finals = frozenset(one.id for one in model.parcels.values() if one.state in FINAL)
                limit = 500 if rate is None else max(1, rate // 4)
                model.tasks[good(result)] = Task("waiting")
                model.orders[good(result)] = Order(endpoint, frozenset(map(str, statuses)), finals, limit, UUID(int=0))

        return Doing("start job", do, expect)

    def count_job(self, id: UUID) -> Doing[None]:
        def expect(model: Model, result: object, _: Seen) -> None:
            task = model.tasks[id]
            if task.status == "waiting":
                task.status, task.total = "running", len(model.items(model.orders[id]))

        return Doing("count job", lambda: self.runner()._count(id), expect)

    def run_chunk(self, id: UUID, *, alone: bool = True) -> Doing[float | None]:
        """A chunk of a job; not `alone`: somebody else may be at it at this moment."""

        def expect(model: Model, result: float | RelayError | None, seen: Seen) -> None:
            running = model.tasks[id].status == "running"
            if result is None:
                assert not (running and alone)
            elif good(result) == 0:
                assert running
                model.chunk(id, seen)

        return Doing("run chunk", lambda: self.runner()._chunk(id), expect)

    def move_job(self, id: UUID, how: str) -> Doing[object]:
        async def do() -> object:
            move = {"pause": jobs.pause, "resume": jobs.resume, "cancel": jobs.cancel}[how]
            async with self.db.connection() as conn:
                return await move(conn, self.tenant, id)

        def expect(model: Model, result: object, _: Seen) -> None:
            task = model.tasks[id]
            before = {"pause": {"waiting", "running"}, "resume": {"paused"}, "cancel": {"waiting", "running", "paused"}}
            if decided(result, wins=task.status in before[how]):
                resumed = "waiting" if task.total is None else "running"
                task.status = {"pause": "paused", "resume": resumed, "cancel": "cancelled"}[how]

        return Doing(f"{how} job", do, expect)
