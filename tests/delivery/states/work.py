"""What workers and the clock do, by Relay's own functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import UUID

from relay.delivery import beats, gates, lanes
from relay.delivery.holdings import Holdings
from relay.delivery.lanes import Lane
from relay.delivery.live import Claimed, Dispatched, claim, unclaimed
from relay.delivery.outcomes import Cancelled, Dead, Delivered, Outcome, Reason, Retry
from relay.delivery.recorder import Recorder
from relay.delivery.take import Taken, Want, give_up_probe, lock, take_due, take_heads
from relay.errors import RelayError
from tests.delivery.crew import recorded
from tests.delivery.states.doing import LATER_S, Client, Doing, good
from tests.delivery.states.model import FINAL, Model, Parcel, Seen

_LOST_AT_MOST = 5
OUTCOMES: dict[str, Outcome] = {
    "delivered": Delivered(),
    "waiting": Retry(Reason.HTTP_SERVER_ERROR, LATER_S),
    "again": Retry(Reason.HTTP_SERVER_ERROR, 0),
    "dead": Dead(Reason.ATTEMPTS_EXHAUSTED),
}


class Work(Client):
    """What happens to deliveries on their way."""

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
                return bool(await lanes.hold(conn, [lane], worker=worker))

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
        async with self.db.transaction() as conn:
            await lock(conn, [want])
            if want.probes and await gates.try_probe(conn, want.lane.endpoint_id) is None:
                return Taken()
            (taken,) = await (take_heads if want.lane.ordered else take_due)(conn, [want], worker=worker)
            if want.probes and not taken.claimed:
                await give_up_probe(conn, want.lane.endpoint_id)
        return taken

    def release_lane(self, lane: Lane, worker: int) -> Doing[None]:
        async def do() -> None:
            async with self.db.transaction() as conn:
                if await lanes.lock_to_release(conn, [lane], worker=worker):
                    await lanes.release(conn, [lane])
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
