"""The clock: starts what is due. It runs in every worker process; a lease lets one of them do the work.

The lease only saves work: every action here is correct if two clocks do it at once. Nothing depends on the doorbell, on
Redis keeping a message, or on a worker staying alive; this is where all of that is made good.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from relay import metrics
from relay.chores import Chore
from relay.db import LOST, REPEATABLE, Conn, Database
from relay.delivery import beats, lanes, live
from relay.delivery.live import TIERS, hints_for
from relay.ids import fence
from relay.insight import counts, finished, stats, totals
from relay.insight.leader import LeaderGauges
from relay.intake import accept, outbox
from relay.queue import UNREACHABLE, Hint, Queue

TICK_S = 0.2
LEASE_S = 3
RESEND_S = 3.5
TENANTS_A_ROUND = 200
#: Lanes handed out and not taken up, at most, by tier: together what keeps the workers busy.
_LANES_OUT = {0: 240, 1: 120, 2: 40}
_SCHEDULED_AT_ONCE = 1000
_SHORTEST_S = 0.005
_SETTLES_S = 10.0
_COUNT_ANYWAY_S = 30.0
_LOG = logging.getLogger(__name__)


class Clock:
    """One per worker process. `run` never ends by itself, whatever fails."""

    def __init__(
        self,
        db: Database,
        queue: Queue,
        *,
        retention_days: int,
        maintain: Callable[[], None],
        chores: Iterable[Chore] = (),
        gauges: LeaderGauges | None = None,
    ) -> None:
        """`maintain` makes and retires partitions; it blocks and is called in a thread. `chores` come after its own."""
        self._db = db
        self._queue = queue
        self._retention_days = retention_days
        self._maintain = maintain
        self._maintaining: asyncio.Future[None] | None = None
        self._newest_n = 0
        self._moved_at = 0.0
        self._counted_at = -_COUNT_ANYWAY_S
        self._me = fence()
        self._woken = asyncio.Event()
        self._cursors = dict.fromkeys(range(len(TIERS)), UUID(int=0))
        self._connected_since: float | None = None
        self._chores = [
            Chore(self._give_back, every_s=1.0),
            Chore(self._resend, every_s=1.0),
            Chore(self._count, every_s=2.0),
            Chore(self._survey, every_s=10.0),
            Chore(self._rearm, every_s=60.0),
            Chore(self._sweep, every_s=60.0),
            Chore(self._close_days, every_s=600.0),
            Chore(self._partition, every_s=600.0),
            *chores,
        ]
        self._gauges = gauges or LeaderGauges()
        self.leads = False

    def wake(self) -> None:
        """A lane is due: look now instead of at the next tick."""
        self._woken.set()

    async def run(self) -> None:
        """Tick for ever; whatever ends it, this process no longer says what only the leader knows."""
        try:
            await self._run()
        finally:
            self._gauges.drop()

    async def _run(self) -> None:
        renew_at = 0.0
        loop = asyncio.get_running_loop()
        while True:
            try:
                if loop.time() >= renew_at:
                    renew_at = loop.time() + 1.0
                    await self._renew()
                    self._connected_since = self._connected_since or loop.time()
                if self.leads:
                    await self._tick()
            except REPEATABLE as cause:
                _LOG.info("the clock tries again: %s", cause)
            except (*LOST, *UNREACHABLE) as cause:
                _LOG.warning("the clock goes on: %s", cause)
                self._connected_since = None
            except Exception:
                _LOG.exception("the clock goes on")
            await asyncio.sleep(_SHORTEST_S)
            await self._pause()

    async def _pause(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(TICK_S):  # `wait_for` of Python 3.11 forgets a cancellation that meets the end
                await self._woken.wait()
        self._woken.clear()

    async def _renew(self) -> None:
        """Ask for the lease; what leads on without an answer says so no longer than a lease lasts."""
        asked_at = asyncio.get_running_loop().time()
        self.leads = await self._lease()
        if self.leads:
            self._gauges.keep(until=asked_at + LEASE_S)
        else:
            self._gauges.lose()

    async def _lease(self) -> bool:
        async with self._db.connection() as conn:
            rows = await conn.execute(
                """WITH s AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
                   INSERT INTO leases AS l (name, holder, until)
                   SELECT 'clock', %s, now() + make_interval(secs => %s) FROM s
                   ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
                   WHERE l.holder = excluded.holder OR l.until < now() RETURNING 1""",
                (self._me, LEASE_S),
            )
            return await rows.fetchone() is not None

    async def _tick(self) -> None:
        now = asyncio.get_running_loop().time()
        async with self._db.connection() as conn:
            work = await _look(conn)
        if work.moved or work.newest_n != self._newest_n:
            self._newest_n = work.newest_n
            self._moved_at = now
        with suppress(*UNREACHABLE):
            await self._start(work)
        for chore in self._chores:
            await chore.run_if_due(now)

    async def _start(self, work: _Work) -> None:
        """Start what is due. Without Redis it waits; the chores do not."""
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
                    hints += [lane.hint() for lane in await lanes.hand_out(conn, picked)]
        if hints:
            await self._queue.enqueue(hints)
            self._woken.set()

    async def _pick(self, conn: Conn, tier: int, *, limit: int) -> list[tuple[UUID, str, UUID]]:
        picked = await lanes.pick(conn, tier=tier, after=self._cursors[tier], limit=limit)
        if len(picked) < limit and self._cursors[tier].int:
            self._cursors[tier] = UUID(int=0)
            picked = picked or await lanes.pick(conn, tier=tier, after=self._cursors[tier], limit=limit)
        if picked:
            self._cursors[tier] = picked[-1][2]
        return picked

    async def _give_back(self) -> None:
        if self._connected_since is None:
            return
        if asyncio.get_running_loop().time() - self._connected_since < beats.SILENT_S:
            return
        async with self._db.connection() as conn:
            silent = await beats.silent(conn)
        for no in silent:
            async with self._db.transaction() as conn:
                count = await beats.give_back_silent(conn, no)
            metrics.GIVEN_BACK.inc(count)
            _LOG.warning("worker %s is silent: %d deliveries go back", no, count)

    async def _resend(self) -> None:
        """A message that nobody took up may be lost: send it again within 5 s, unless the queue is just long."""
        with suppress(*UNREACHABLE):
            await self._resend_unclaimed()

    async def _resend_unclaimed(self) -> None:
        messages = sum([await self._queue.length(f"deliver_{tier}") for tier in TIERS])
        lane_messages = await self._queue.length("lane")
        async with self._db.connection() as conn:
            dispatched = await live.unclaimed(conn, silent_s=RESEND_S, more_than=messages)
            out = await lanes.unclaimed(conn, silent_s=RESEND_S, more_than=lane_messages)
        if dispatched or out:
            metrics.RESENT.inc(len(dispatched) + len(out))
            _LOG.info(
                "%d deliveries and %d lanes were not taken up and are handed out again", len(dispatched), len(out)
            )
            await self._queue.enqueue([*hints_for(dispatched), *(lane.hint() for lane in out)])

    async def _count(self) -> None:
        """Count while something moves, and now and then all the same; counts of a system at rest stay right by themselves."""
        now = asyncio.get_running_loop().time()
        async with self._db.transaction() as conn:
            if now - self._moved_at < _SETTLES_S or now - self._counted_at >= _COUNT_ANYWAY_S:
                await counts.refresh(conn)
                await stats.refresh(conn)
                self._counted_at = now
            else:
                await counts.confirm(conn)
            await self._gauges.measure(conn)

    async def _survey(self) -> None:
        async with self._db.connection() as conn:
            await self._gauges.survey(conn, keep_days=self._retention_days)

    async def _rearm(self) -> None:
        async with self._db.connection() as conn:
            count = await lanes.rearm_sleepers(conn)
        if count:
            metrics.SLEEPING_LANES.inc(count)
            _LOG.error("%d lanes slept with work in them; this is a bug in Relay, please report it", count)

    async def _sweep(self) -> None:
        async with self._db.connection() as conn:
            await accept.forget_expired_keys(conn)

    async def _close_days(self) -> None:
        async with self._db.connection() as conn:
            await totals.close(conn)  # before minutes are forgotten
            await stats.close_days(conn)
            await stats.forget_days(conn, keep_days=self._retention_days)
            await finished.close(conn)

    async def _partition(self) -> None:
        """Not waited for: whoever reads an old partition holds it up for some seconds, and lanes must not wait for that."""
        if self._maintaining is None or self._maintaining.done():
            self._maintaining = asyncio.get_running_loop().run_in_executor(None, self._maintain)
            self._maintaining.add_done_callback(_tell_of_failure)


def _tell_of_failure(maintaining: asyncio.Future[None]) -> None:
    if not maintaining.cancelled() and (cause := maintaining.exception()) is not None:
        _LOG.warning("partitions are looked after at the next turn: %s", cause)


@dataclass(frozen=True, slots=True)
class _Work:
    """What there is to do, and whether anything moves: the newest n of the outbox, and deliveries that are not final."""

    scheduled: bool
    outbox: bool
    lanes: bool
    moved: bool
    newest_n: int


async def _look(conn: Conn) -> _Work:
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
    return _Work(*row)
