"""Accepting, fanning out, and time, as Relay's own functions do them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import UUID

from relay.delivery.live import Dispatched
from relay.errors import RelayError
from relay.intake import cancelling, outbox
from tests.delivery.states.doing import LATER_S, Client, Doing, decided, good
from tests.delivery.states.model import Letter, Model, Parcel, Seen
from tests.shop import accepted


class Intake(Client):
    """What happens to events."""

    def accept(self, payloads: Sequence[bytes], *, priority: int, scheduled: bool) -> Doing[list[UUID]]:
        async def do() -> list[UUID]:
            delay_s = LATER_S if scheduled else None
            new = [self.shop.event(one, priority=priority, delay_s=delay_s) for one in payloads]
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
