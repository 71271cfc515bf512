"""A message is a hint: doubled and tripled, to several workers, it sends nothing twice."""

from __future__ import annotations

from uuid import UUID

from relay.db import Database
from relay.delivery import lanes
from relay.delivery.fanout import FanOut
from relay.delivery.live import hints_for
from relay.ids import Uuid7
from relay.intake import outbox
from relay.queue import Hint
from relay.settings import Settings
from tests.faults.conftest import StartWorker
from tests.running import until
from tests.shop import Shop
from tests.sink import Answer, Sink

ALL = list(outbox.SHARDS)


async def fanned_out(db: Database, *, window: int) -> list[Hint]:
    """Fan out here and return the messages for what goes out at once."""
    fan = FanOut(db, ids=Uuid7(), window=window)
    return [hint async for dispatched in fan.drain(ALL) for hint in hints_for(dispatched)]


async def lane_hints(db: Database) -> list[Hint]:
    """Hand out every lane that is due, as the clock does."""
    async with db.connection() as conn:
        await lanes.promote(conn)
    hints: list[Hint] = []
    for _ in range(5):
        async with db.transaction() as conn:
            picked = await lanes.pick(conn, tier=1, after=UUID(int=0), limit=200)
            hints += lanes.hints_for(await lanes.hand_out(conn, picked))
    return hints


async def test_every_message_three_times_to_two_workers_sends_nothing_twice(
    shop: Shop, settings: Settings, start_worker: StartWorker
) -> None:
    with Sink(lambda _: Answer(delay_s=0.05)) as sink:
        for n in range(5):
            await shop.endpoint(sink.url(f"/{n}"))
        db, queue = shop.web.db, shop.web.queue
        sent = await shop.send(60)
        waiting = await fanned_out(db, window=0)
        hints = await lane_hints(db)
        assert not waiting
        assert len(hints) == 5
        for _ in range(3):
            await shop.endpoint(sink.url("/at-once"), event_types=["now"])
        now = await shop.send(100, type="now")
        hints += await fanned_out(db, window=4000)
        last = await shop.send(60)
        hints.append(Hint("fan_out", {"shards": ALL}))
        for _ in range(3):
            await queue.enqueue(hints)
        for _ in range(2):
            start_worker()
        # 5 endpoints take every type; 3 take "now" only.
        expected = 5 * (len(sent) + len(now) + len(last)) + 3 * len(now)
        await until(lambda: len(sink.arrivals) >= expected, 30, what=f"{expected} arrivals")
    ids = [(arrival.path, arrival.event_id, arrival.attempt) for arrival in sink.arrivals]
    assert len(ids) == expected
    for n in range(5):
        assert set(sink.events(f"/{n}").values()) == {1}
        assert set(sink.events(f"/{n}")) == {*sent, *now, *last}
    assert sink.events("/at-once") == dict.fromkeys(now, 3)
