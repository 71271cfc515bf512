"""What is due, and starting it: scheduled events into the outbox, rings for its shards, and lanes to the workers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from relay.db import Conn, Database
from relay.delivery import lanes
from relay.delivery.live import TIERS
from relay.intake import outbox
from relay.queue import Hint, Queue

TENANTS_A_ROUND = 200
#: Lanes handed out and not taken up, at most, by tier: together what keeps the workers busy.
_LANES_OUT = {0: 240, 1: 120, 2: 40}
_SCHEDULED_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Work:
    """What there is to do, and whether anything moves: the newest n of the outbox, and deliveries that are not final."""

    scheduled: bool
    outbox: bool
    lanes: bool
    moved: bool
    newest_n: int


async def look(conn: Conn) -> Work:
    """One cheap statement that says what there is to do: all that an idle system costs at each tick."""
    rows = await conn.execute(
        """SELECT EXISTS (SELECT 1 FROM scheduled WHERE due_at <= now()),
                  EXISTS (SELECT 1 FROM outbox WHERE failed_reason IS NULL),
                  EXISTS (SELECT 1 FROM lanes WHERE ready_at <= now() AND NOT ready AND fence IS NULL)
                  OR EXISTS (SELECT 1 FROM lanes WHERE ready),
                  EXISTS (SELECT 1 FROM live),
                  (SELECT last_value + is_called::int FROM outbox_n_seq)"""
    )
    row = await rows.fetchone()
    assert row is not None
    return Work(*row)


class Starter:
    """Starts what is due; clients have their turns, from where the last round ended."""

    def __init__(self, db: Database, queue: Queue, *, on_more: Callable[[], None]) -> None:
        """`on_more`: lanes were handed out, and more may be due at once."""
        self._db = db
        self._queue = queue
        self._on_more = on_more
        self._cursors = dict.fromkeys(range(len(TIERS)), UUID(int=0))

    async def start(self, work: Work) -> None:
        """Start what is due. Without Redis it raises, and what is due waits."""
        if work.scheduled:
            await self._start_scheduled()
        if work.outbox:
            await self._ring()
        if work.lanes:
            await self._start_lanes()

    async def _start_scheduled(self) -> None:
        moved = _SCHEDULED_AT_ONCE
        while moved == _SCHEDULED_AT_ONCE:
            async with self._db.connection() as conn:
                by_shard = await outbox.take_in_scheduled(conn, limit=_SCHEDULED_AT_ONCE)
            if by_shard:
                await self._queue.ring(list(by_shard))
            moved = sum(by_shard.values())

    async def _ring(self) -> None:
        async with self._db.connection() as conn:
            shards = await outbox.shards_with_work(conn)
        if shards:
            await self._queue.ring(shards)

    async def _start_lanes(self) -> None:
        async with self._db.connection() as conn:
            await lanes.promote(conn)
        hints: list[Hint] = []
        for tier in self._cursors:
            async with self._db.transaction() as conn:
                room = _LANES_OUT[tier] - await lanes.count_unclaimed(conn, tier=tier)
                picked = await self._pick(conn, tier, limit=min(room, TENANTS_A_ROUND)) if room > 0 else []
                if picked:
                    hints += lanes.hints_for(await lanes.hand_out(conn, picked))
        if hints:
            await self._queue.enqueue(hints)
            self._on_more()

    async def _pick(self, conn: Conn, tier: int, *, limit: int) -> list[tuple[UUID, str, UUID]]:
        picked = await lanes.pick(conn, tier=tier, after=self._cursors[tier], limit=limit)
        if len(picked) < limit and self._cursors[tier].int:
            self._cursors[tier] = UUID(int=0)
            picked = picked or await lanes.pick(conn, tier=tier, after=self._cursors[tier], limit=limit)
        if picked:
            self._cursors[tier] = picked[-1][2]
        return picked
