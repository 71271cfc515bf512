"""What is done to deliveries in tests/delivery/test_state_machine.py: Relay's own functions, and what each must come to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar
from uuid import UUID

from relay.db import Database
from relay.delivery import beats, disabling, fifo_lanes, gates, lanes
from relay.delivery.deliveries import DeliveryStatus
from relay.delivery.fanout import FanOut
from relay.delivery.holdings import Holdings
from relay.delivery.lanes import Lane
from relay.delivery.live import FIFO, Claimed, Dispatched, claim, unclaimed
from relay.delivery.outcomes import Cancelled, Dead, Delivered, Outcome, Reason, Retry
from relay.delivery.recorder import Recorder
from relay.delivery.take import Taken, Want, charge, give_up_probe, lock, take_due, take_heads
from relay.errors import Conflict, NotFound, RelayError
from relay.intake import cancelling, outbox
from relay.recovery import jobs
from relay.recovery.cancel import cancel
from relay.recovery.job_runner import JobRunner
from relay.recovery.replay import replay_event, replay_to
from relay.recovery.replay_spec import ReplaySpec
from relay.recovery.retry import retry
from relay.recovery.start_replay import start_replay
from tests.delivery.crew import recorded
from tests.delivery.expected import FINAL, Letter, Model, Order, Parcel, Seen, Task
from tests.shop import Shop, accepted

T = TypeVar("T")
LATER_S = 1800
_LOST_AT_MOST = 5
OUTCOMES: dict[str, Outcome] = {
    "delivered": Delivered(),
    "waiting": Retry(Reason.HTTP_SERVER_ERROR, LATER_S),
    "again": Retry(Reason.HTTP_SERVER_ERROR, 0),
    "dead": Dead(Reason.ATTEMPTS_EXHAUSTED),
}


@dataclass(frozen=True)
class Doing(Generic[T]):
    """Something that is done: `expect` asserts what it came to and moves the model on; `keep` hears of it once, after all."""

    name: str
    do: Callable[[], Awaitable[T]]
    expect: Callable[[Model, T | RelayError, Seen], None]
    keep: Callable[[T], None] = lambda _: None

    async def attempt(self) -> T | RelayError:
        try:
            return await self.do()
        except RelayError as refusal:
            return refusal

    def kept(self, result: T | RelayError) -> None:
        if not isinstance(result, RelayError):
            self.keep(result)


def good(result: T | RelayError) -> T:
    """What came of it, which was no refusal."""
    assert not isinstance(result, RelayError), result
    return result


def decided(result: object, *, wins: bool, or_else: type[RelayError] = Conflict) -> bool:
    """Assert that it won exactly if it had to, and was refused as it had to be; tell whether it won."""
    if wins:
        assert not isinstance(result, RelayError), result
    else:
        assert isinstance(result, or_else), result
    return wins


class Doings:
    """Makes everything that can be done to one client's deliveries; `look` reads how things stand."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.db: Database = shop.web.db
        self.ids = shop.web.ids
        self.tenant: UUID = shop.tenant_id
        self.fan = FanOut(self.db, ids=self.ids)
        self.since = datetime.now(UTC)

    def runner(self) -> JobRunner:
        return JobRunner(self.db, self.shop.web.queue, ids=self.ids)

    # ---- intake -------------------------------------------------------------------------------------------------------

    def accept(self, payloads: Sequence[bytes], *, priority: int, scheduled: bool) -> Doing[list[UUID]]:
        async def do() -> list[UUID]:
            delay = {"delay_s": LATER_S} if scheduled else {}
            new = [self.shop.event(one, priority=priority, **delay) for one in payloads]
            return [one.id for one in accepted(await self.shop.accept(*new))]

        def expect(model: Model, result: list[UUID] | RelayError, _: Seen) -> None:
            for id, payload in zip(good(result), payloads, strict=True):
                model.letters[id] = Letter(id, payload, priority, scheduled)
                model.places[id] = "scheduled" if scheduled else "outbox"
                model.outbox += [] if scheduled else [id]

        return Doing("accept", do, expect)

    def fan_out(self, keep: Callable[[list[Dispatched]], None], *, window: int) -> Doing[list[Dispatched]]:
        async def do() -> list[Dispatched]:
            self.fan._window = window
            return [one async for batch in self.fan.drain(list(outbox.SHARDS)) for one in batch]

        def expect(model: Model, result: list[Dispatched] | RelayError, seen: Seen) -> None:
            handed = {one.id: one for one in good(result)}
            for event in model.outbox:
                made = self._first_deliveries(model, event, handed, seen)
                model.places[event], model.matched[event] = "fanned", made
            model.outbox = []
            assert len(handed) <= window

        return Doing("fan out", do, expect, keep)

    def _first_deliveries(self, model: Model, event: UUID, handed: dict[UUID, Dispatched], seen: Seen) -> int:
        made = 0
        found = {(one.event, one.endpoint): one.id for one in seen.parcels.values() if one.first}
        for endpoint in sorted(id for id, stand in model.stands.items() if stand.usable):
            assert (event, endpoint) in found, f"{event} has no delivery to {endpoint}"
            tier, lane = model.plan(event, endpoint)
            new = Parcel(found[event, endpoint], event, endpoint, lane, tier)
            model.enter(new)
            if message := handed.get(new.id):
                assert model.passes(new)
                assert not new.ordered
                new.state, new.fence = "dispatched", message.fence
            made += 1
        return made

    def come_due(self) -> Doing[dict[int, int]]:
        """Scheduled events whose time has come enter the outbox. The model's are all of one time, so all or none."""

        async def do() -> dict[int, int]:
            async with self.db.connection() as conn:
                return await outbox.take_in_scheduled(conn, limit=100)

        def expect(model: Model, result: dict[int, int] | RelayError, seen: Seen) -> None:
            moved = [id for id, place in model.places.items() if place == "scheduled" and id in model.ripe]
            assert sum(good(result).values()) == len(moved)
            for id in moved:
                model.places[id] = "outbox"
            model.outbox += moved

        return Doing("come due", do, expect)

    def cancel_scheduled(self, event: UUID) -> Doing[int | None]:
        async def do() -> int | None:
            async with self.db.transaction() as conn:
                return await cancelling.cancel(conn, self.tenant, event)

        def expect(model: Model, result: object, _: Seen) -> None:
            open_ = model.places[event] in {"scheduled", "outbox"}
            if decided(result, wins=model.letters[event].scheduled and open_):
                model.outbox = [id for id in model.outbox if id != event]
                model.places[event], model.matched[event] = "cancelled", 0

        return Doing("cancel scheduled", do, expect)

    # ---- workers ------------------------------------------------------------------------------------------------------

    def claim(
        self, messages: Sequence[Dispatched], worker: int, keep: Callable[[list[Claimed]], None]
    ) -> Doing[list[Claimed]]:
        async def do() -> list[Claimed]:
            async with self.db.connection() as conn:
                return await claim(conn, messages, worker=worker)

        def expect(model: Model, result: list[Claimed] | RelayError, _: Seen) -> None:
            mine = {one.id: one.fence for one in messages}
            free = [p for p in model.parcels.values() if p.state == "dispatched" and p.fence == mine.get(p.id)]
            ours = {one.id for one in free if model.passes(one)}
            assert {one.id for one in good(result)} == ours
            for id in ours:
                model.parcels[id].state, model.parcels[id].owner = "sending", worker

        return Doing("claim", do, expect, keep)

    def park(self, messages: Sequence[Dispatched]) -> Doing[list[UUID]]:
        async def do() -> list[UUID]:
            async with self.db.connection() as conn:
                return await gates.park(conn, messages)

        def expect(model: Model, result: list[UUID] | RelayError, _: Seen) -> None:
            mine = {one.id: one.fence for one in messages}
            held = [p for p in model.parcels.values() if p.state == "dispatched" and p.fence == mine.get(p.id)]
            held = [one for one in held if not model.passes(one)]
            assert set(good(result)) == {one.id for one in held}
            for one in held:
                one.wait()

        return Doing("park", do, expect)

    def hand_out(self, keep: Callable[[list[Lane]], None]) -> Doing[list[Lane]]:
        async def do() -> list[Lane]:
            handed: list[Lane] = []
            async with self.db.connection() as conn:
                await lanes.promote(conn)
            for tier in range(3):
                while picked := await self._pick(tier, handed):
                    handed += picked
            return handed

        def expect(model: Model, result: list[Lane] | RelayError, _: Seen) -> None:
            for one in good(result):
                track, stand = model.track(one.endpoint_id, one.key), model.stands[one.endpoint_id]
                assert track.fence is None
                assert track.blocked_by is None
                assert not stand.paused
                assert stand.gate in {"", "half_open"}
                track.fence = one.fence

        return Doing("hand out", do, expect, keep)

    async def _pick(self, tier: int, before: Sequence[Lane]) -> list[Lane]:
        async with self.db.transaction() as conn:
            picked = await lanes.pick(conn, tier=tier, after=UUID(int=0), limit=200)
            return await lanes.hand_out(conn, picked)

    def hold(self, lane: Lane, worker: int, keep: Callable[[bool], None]) -> Doing[bool]:
        async def do() -> bool:
            async with self.db.connection() as conn:
                return await lanes.hold(conn, lane, worker=worker)

        def expect(model: Model, result: bool | RelayError, _: Seen) -> None:
            track = model.track(lane.endpoint_id, lane.key)
            ours = track.fence == lane.fence and track.owner is None
            assert good(result) is ours
            if ours:
                track.owner = worker

        return Doing("hold", do, expect, keep)

    def take(
        self, lane: Lane, worker: int, keep: Callable[[list[Claimed]], None], *, limit: int, least: int | None = None
    ) -> Doing[list[Claimed]]:
        """As a lane's holder does it: a suspect alone, and one that probes a half-open circuit.

        `least`: so few must be taken, for others are at the same deliveries at this moment.
        """

        async def do() -> list[Claimed]:
            taken = await self._take(Want(lane, limit), worker)
            if taken.suspect:
                taken = await self._take(Want(lane, alone=True), worker)
            if taken.half_open and not taken.claimed and taken.wait_s is None:
                taken = await self._take(Want(lane, probes=True), worker)
                if taken.suspect and not taken.claimed:
                    taken = await self._take(Want(lane, probes=True, alone=True), worker)
            return taken.claimed

        def expect(model: Model, result: list[Claimed] | RelayError, seen: Seen) -> None:
            claimed = good(result)
            ready = self._ready(model, lane, worker)
            stand = model.stands[lane.endpoint_id]
            probes = stand.gate == "half_open" and not stand.paused
            most = limit if stand.passes else 1 if probes else 0
            available = min(most, len(ready))
            assert (available if least is None else least) <= len(claimed) <= available
            assert {one.id for one in claimed} <= {one.id for one in ready}
            for one in claimed:
                parcel = model.parcels[one.id]
                model.leave_in_order(parcel)
                parcel.state, parcel.fence, parcel.owner = "sending", one.fence, worker
            if probes and claimed:
                stand.gate = "probing"

        return Doing("take", do, expect, keep)

    def _ready(self, model: Model, lane: Lane, worker: int) -> list[Parcel]:
        track = model.track(lane.endpoint_id, lane.key)
        if (track.fence, track.owner) != (lane.fence, worker) or track.blocked_by:
            return []
        head = model.head(lane.endpoint_id, lane.key)
        inside = ([head] if head else []) if lane.ordered else model.live(lane.endpoint_id, lane.key)
        return [one for one in inside if one.due]

    async def _take(self, want: Want, worker: int) -> Taken:
        async with self.db.pipeline() as conn:
            await lock(conn, [want])
            if want.probes and await gates.try_probe(conn, want.lane.endpoint_id) is None:
                return Taken()
            (taken,) = await (take_heads if want.lane.ordered else take_due)(conn, [want], worker=worker)
            if want.probes and not taken.claimed:
                await give_up_probe(conn, want.lane.endpoint_id)
            await charge(conn, [taken])
        return taken

    def release_lane(self, lane: Lane, worker: int) -> Doing[None]:
        async def do() -> None:
            async with self.db.transaction() as conn:
                if await lanes.lock_to_release(conn, lane, worker=worker):
                    await lanes.release(conn, lane)
            async with self.db.connection() as conn:
                await lanes.end_pace(conn, lane.endpoint_id)

        def expect(model: Model, result: object, _: Seen) -> None:
            track = model.track(lane.endpoint_id, lane.key)
            if (track.fence, track.owner) == (lane.fence, worker):
                track.free()

        return Doing("release lane", do, expect)

    def record(self, one: Claimed, kind: str) -> Doing[None]:
        """Write an outcome; what may not be sent gets the one that it gets instead."""
        written: list[tuple[str, bool]] = []

        async def do() -> None:
            outcome, sent = await self._outcome(one, OUTCOMES[kind])
            what = recorded(one, outcome, status=200 if kind == "delivered" else 503)
            if not sent:
                what = type(what)(one, outcome, None)
            recorder = Recorder(self.db, Holdings(), on_dead=lambda _: None)
            recorder.add(what)
            await recorder.end()
            state = {Delivered: "delivered", Retry: "waiting", Dead: "dead", Cancelled: "cancelled"}[type(outcome)]
            written.append((state, sent))

        def expect(model: Model, result: object, _: Seen) -> None:
            good(result)
            self._expect_record(model, one, *written[0], delayed=kind == "waiting")

        return Doing(f"record {kind}", do, expect)

    async def _outcome(self, one: Claimed, outcome: Outcome) -> tuple[Outcome, bool]:
        """What becomes of it, and whether it is sent at all."""
        async with self.db.connection() as conn:
            row = await (
                await conn.execute(
                    "SELECT deleted_at IS NOT NULL, status = 'disabled' FROM endpoints WHERE id = %s",
                    (one.endpoint_id,),
                )
            ).fetchone()
        assert row is not None
        if row[0]:
            return Cancelled(Reason.ENDPOINT_DELETED), False
        if row[1]:
            return Dead(Reason.ENDPOINT_DISABLED), False
        return (Dead(Reason.WORKER_LOST), False) if one.lost >= _LOST_AT_MOST else (outcome, True)

    def _expect_record(self, model: Model, one: Claimed, state: str, sent: bool, *, delayed: bool) -> None:
        parcel = model.parcels[one.id]
        if parcel.state in FINAL:
            return
        if parcel.fence == one.fence:
            parcel.attempts += sent
            if state == "waiting":
                parcel.wait(delayed=delayed)
                return
            parcel.end(state)
            usable, blocks = model.stands[one.endpoint_id].usable, model.blocking[one.endpoint_id]
            if state == "dead" and one.seq is not None and usable and blocks:
                model.track(one.endpoint_id, one.lane).blocked_by = one.id
        elif parcel.released == one.fence and sent and one.seq is not None:
            parcel.attempts, parcel.released = parcel.attempts + 1, None

    def put_back(self, one: Claimed) -> Doing[None]:
        async def do() -> None:
            recorder = Recorder(self.db, Holdings(), on_dead=lambda _: None)
            recorder.put_back([one])
            await recorder.end()

        def expect(model: Model, result: object, _: Seen) -> None:
            parcel = model.parcels[one.id]
            if parcel.state not in FINAL and parcel.fence == one.fence and parcel.owner in {None, one.owner}:
                parcel.wait()

        return Doing("put back", do, expect)

    def give_back(self, worker: int) -> Doing[int]:
        """A worker was silent too long."""

        async def do() -> int:
            async with self.db.transaction() as conn:
                return await beats.give_back(conn, worker, lost=1)

        def expect(model: Model, result: int | RelayError, _: Seen) -> None:
            lost = [one for one in model.parcels.values() if one.owner == worker]
            assert good(result) == len(lost)
            for one in lost:
                one.wait()
                one.lost += 1
            for track in model.tracks.values():
                if track.owner == worker:
                    track.free()

        return Doing("give back", do, expect)

    def resend(self, keep: Callable[[list[Dispatched]], None]) -> Doing[list[Dispatched]]:
        """The clock sends what nobody took up once more, under the same fence."""

        async def do() -> list[Dispatched]:
            async with self.db.connection() as conn:
                return await unclaimed(conn, silent_s=0, more_than=0)

        def expect(model: Model, result: list[Dispatched] | RelayError, _: Seen) -> None:
            handed = {(one.id, one.fence) for one in model.parcels.values() if one.state == "dispatched"}
            assert {(one.id, one.fence) for one in good(result)} == handed

        return Doing("resend", do, expect, keep)

    def resend_lanes(self, keep: Callable[[list[Lane]], None]) -> Doing[list[Lane]]:
        async def do() -> list[Lane]:
            async with self.db.connection() as conn:
                return await lanes.unclaimed(conn, silent_s=0, more_than=0)

        def expect(model: Model, result: list[Lane] | RelayError, _: Seen) -> None:
            handed = {key: one.fence for key, one in model.tracks.items() if one.fence and one.owner is None}
            assert {(one.endpoint_id, one.key): one.fence for one in good(result)} == handed

        return Doing("resend lanes", do, expect, keep)

    # ---- endpoints ----------------------------------------------------------------------------------------------------

    def pause(self, endpoint: UUID) -> Doing[int]:
        def expect(model: Model, result: int | RelayError, _: Seen) -> None:
            stand = model.stands[endpoint]
            if stand.deleted:
                assert isinstance(result, NotFound)
            elif decided(result, wins=stand.active):
                stand.paused = True
                for one in model.of(endpoint):
                    if one.state == "dispatched":
                        one.wait()

        return Doing("pause", lambda: self.shop.pause(endpoint), expect)

    def resume(self, endpoint: UUID, *, rate: int | None) -> Doing[None]:
        def expect(model: Model, result: object, _: Seen) -> None:
            stand = model.stands[endpoint]
            if decided(result, wins=not stand.deleted, or_else=NotFound):
                stand.paused, stand.active = False, True

        return Doing("resume", lambda: self.shop.resume(endpoint, rate_per_sec=rate), expect)

    def disable(self, endpoint: UUID) -> Doing[bool]:
        async def do() -> bool:
            async with self.db.transaction() as conn:
                return await disabling.disable(conn, self.tenant, endpoint, reason=Reason.CANCELLED_BY_USER)

        def expect(model: Model, result: bool | RelayError, seen: Seen) -> None:
            stand = model.stands[endpoint]
            assert good(result) is stand.usable
            if stand.usable:
                self._end_waiting(model, endpoint, "dead", seen)
                stand.active = False

        return Doing("disable", do, expect)

    def delete(self, endpoint: UUID) -> Doing[None]:
        async def do() -> None:
            async with self.db.transaction() as conn:
                await disabling.delete(conn, self.tenant, endpoint)

        def expect(model: Model, result: object, seen: Seen) -> None:
            stand = model.stands[endpoint]
            if decided(result, wins=not stand.deleted, or_else=NotFound):
                self._end_waiting(model, endpoint, "cancelled", seen)
                stand.deleted = True

        return Doing("delete", do, expect)

    def _end_waiting(self, model: Model, endpoint: UUID, state: str, seen: Seen) -> None:
        for one in model.of(endpoint):
            if one.unowned:
                one.end(state)
        model.open_lanes(endpoint)
        model.turn_epoch(endpoint, seen)

    def move_gate(self, how: str, endpoint: UUID, epoch: int) -> Doing[None]:
        """What the breaker decides after an outcome of that epoch, which may be over."""

        async def do() -> None:
            async with self.db.connection() as conn:
                match how:
                    case "open":
                        await gates.open_circuits(conn, [(endpoint, epoch)])
                    case "close":
                        await gates.close_circuits(conn, [(endpoint, epoch)])
                    case "reopen":
                        await gates.reopen_circuits(conn, {(endpoint, epoch): 0.0})
                    case _:
                        await gates.throttle(conn, {endpoint: LATER_S})

        def expect(model: Model, result: object, seen: Seen) -> None:
            good(result)
            stand = model.stands[endpoint]
            broken = stand.gate in {"open", "half_open", "probing"}
            if how == "throttle":
                stand.gate = "throttled" if stand.usable and not broken else stand.gate
            elif stand.epoch == epoch and broken == (how != "open") and (broken or stand.usable):
                stand.gate = "" if how == "close" else "open"
                model.turn_epoch(endpoint, seen)

        return Doing(f"{how} gate", do, expect)

    # ---- recovery -----------------------------------------------------------------------------------------------------

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

    def replay_event(self, event: UUID) -> Doing[None]:
        async def do() -> None:
            async with self.db.transaction() as conn:
                await replay_event(conn, self.tenant, event, ids=self.ids)

        def expect(model: Model, result: object, seen: Seen) -> None:
            finals = model.finals(event)
            possible = [one for one in finals if model.stands[one.endpoint].usable and model.repeatable(one)]
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

    def drain_fifo(self, endpoint: UUID, key: str, how: str) -> Doing[int]:
        """Move what waits in a FIFO lane to the ordinary one, or cancel it."""

        async def do() -> int:
            step = fifo_lanes.move_to_standard if how == "move" else fifo_lanes.cancel_waiting
            async with self.db.transaction() as conn:
                return await step(conn, endpoint, key)

        def expect(model: Model, result: int | RelayError, _: Seen) -> None:
            waiting = [one for one in model.live(endpoint, FIFO + key) if one.unowned]
            assert good(result) == len(waiting)
            for one in waiting:
                if how == "move":
                    one.lane, one.seq = "", None
                else:
                    one.end("cancelled")
            model.track(endpoint, FIFO + key).blocked_by = None

        return Doing(f"drain by {how}", do, expect)

    def release_fifo(self, endpoint: UUID, key: str) -> Doing[bool]:
        async def do() -> bool:
            async with self.db.transaction() as conn:
                return await fifo_lanes.release(conn, endpoint, key)

        def expect(model: Model, result: bool | RelayError, _: Seen) -> None:
            track, head = model.track(endpoint, FIFO + key), model.head(endpoint, FIFO + key)
            held = track.fence is not None or track.blocked_by is not None
            if head is not None and head.state == "sending":
                head.released, held = head.fence, True
                head.wait()
            assert good(result) is held
            track.blocked_by = None
            track.free()

        return Doing("release FIFO lock", do, expect)

    # ---- jobs ---------------------------------------------------------------------------------------------------------

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

    # ---- time ---------------------------------------------------------------------------------------------------------

    def hour(self) -> Doing[None]:
        """An hour passes, for all that waits for a time."""

        async def do() -> None:
            async with self.db.transaction() as conn:
                await conn.execute("UPDATE live SET due_at = due_at - interval '1 h'")
                await conn.execute(
                    """UPDATE lanes SET ready_at = ready_at - interval '1 h', gate_until = gate_until - interval '1 h',
                           probe_until = probe_until - interval '1 h', tat = tat - interval '1 h'"""
                )
                await conn.execute("UPDATE scheduled SET due_at = due_at - interval '1 h'")
                await conn.execute("UPDATE jobs SET next_at = next_at - interval '1 h'")

        def expect(model: Model, result: object, _: Seen) -> None:
            model.let_time_pass()

        return Doing("hour", do, expect)
