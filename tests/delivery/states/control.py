"""Pausing, disabling, gates and FIFO lanes, by Relay's own functions."""

from __future__ import annotations

from uuid import UUID

from relay.delivery import disabling, fifo_lanes, gates
from relay.delivery.live import FIFO
from relay.delivery.outcomes import Reason
from relay.errors import NotFound, RelayError
from tests.delivery.states.doing import LATER_S, Client, Doing, decided, good
from tests.delivery.states.model import Model, Seen


class Control(Client):
    """What is done to endpoints and lanes."""

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
