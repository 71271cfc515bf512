"""The ledger: silent about a system that does everything there is to do, and it names each thing that does not fit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.db import Conn, Database
from relay.delivery.live import Claimed
from relay.delivery.outcomes import Dead, Reason
from relay.delivery.record import record
from relay.recovery.replay import replay_to
from relay.settings import Settings
from relay.verify import ledger
from relay.verify.findings import LISTED, Check, Found, found
from relay.verify.ledger import next_size, sweep
from tests.delivery.crew import recorded, rows
from tests.ledger import offenders
from tests.rows import World, make_world

ALIVE = 11
_HISTORY = """INSERT INTO history (id, tenant_id, event_id, endpoint_id, state, tier, attempts, reason, replay_of, first,
                  job_id, created_at)
              VALUES (%s, %s, %s, %s, %s, 1, %s, %s, %s, %s, %s, now()) RETURNING 1"""
_LIVE = """INSERT INTO live (id, tenant_id, event_id, endpoint_id, tier, lane, seq, due_at, first, job_id)
           VALUES (%s, %s, %s, %s, 1, %s, %s, now() + make_interval(secs => %s), %s, %s) RETURNING 1"""
_LANE = "INSERT INTO lanes (endpoint_id, key, tenant_id, tier, ready_at) VALUES (%s, %s, %s, 1, NULL) RETURNING 1"


@dataclass
class Busy(World):
    """A client to whom everything has happened that may happen."""

    async def final(
        self,
        state: str,
        reason: str,
        *,
        attempts: int = 0,
        event_id: UUID | None = None,
        replay_of: UUID | None = None,
        job_id: UUID | None = None,
    ) -> UUID:
        """A delivery that ended, of an event of its own if none is given."""
        first = event_id is None
        if event_id is None:
            event_id = await self.event()
            await self.fanned_out(event_id, matched=1)
        id = self.ids()
        await rows(
            self.conn,
            _HISTORY,
            (id, self.tenant_id, event_id, self.endpoint_id, state, attempts, reason, replay_of, first, job_id),
        )
        for n in range(1, attempts + 1):
            await self.attempt(id, n, status=200 if state == "delivered" and n == attempts else 503)
        return id

    async def letter(self, id: UUID) -> None:
        await rows(
            self.conn,
            """INSERT INTO dead_letters (id, tenant_id, endpoint_id, event_id, reason)
               SELECT id, tenant_id, endpoint_id, event_id, reason FROM history WHERE id = %s RETURNING 1""",
            (id,),
        )

    async def waits(
        self,
        *,
        due_s: float,
        endpoint_id: UUID | None = None,
        lane: str = "",
        seq: int | None = None,
        job_id: UUID | None = None,
    ) -> UUID:
        """A delivery that waits in a lane, of an event of its own."""
        event_id, id = await self.event(), self.ids()
        if job_id is None:
            await self.fanned_out(event_id, matched=1)
        else:
            await self.fanned_out(event_id, matched=0)
        values = (
            id,
            self.tenant_id,
            event_id,
            endpoint_id or self.endpoint_id,
            lane,
            seq,
            due_s,
            job_id is None,
            job_id,
        )
        await rows(self.conn, _LIVE, values)
        return id

    async def under_way(self, *, owner: int | None) -> UUID:
        """A delivery that was handed out long ago, and perhaps claimed."""
        event_id = await self.event()
        await self.fanned_out(event_id, matched=1)
        id = await self.dispatched(event_id, owner=owner)
        ago = "interval '1 hour'" if owner else "interval '50 s'"
        await rows(self.conn, f"UPDATE live SET sent_at = now() - {ago} WHERE id = %s RETURNING 1", (id,))
        return id


async def intake(busy: Busy) -> None:
    outbox, scheduled, cancelled = [await busy.event() for _ in range(3)]
    await rows(
        busy.conn,
        "INSERT INTO outbox (shard, tenant_id, event_id) VALUES (0, %s, %s) RETURNING 1",
        (busy.tenant_id, outbox),
    )
    await rows(
        busy.conn,
        "INSERT INTO scheduled (event_id, tenant_id, due_at) VALUES (%s, %s, now()) RETURNING 1",
        (scheduled, busy.tenant_id),
    )
    await busy.fanned_out(cancelled, matched=0)


async def endings(busy: Busy) -> None:
    await busy.final("delivered", "ok", attempts=3)
    await busy.final("cancelled", "cancelled_by_user")
    settled = await busy.final("dead", "attempts_exhausted", attempts=2)
    event_id: UUID = (await rows(busy.conn, "SELECT event_id FROM history WHERE id = %s", (settled,)))[0][0]  # pyright: ignore[reportAssignmentType]
    await busy.final("delivered", "ok", attempts=1, event_id=event_id, replay_of=settled)
    await busy.final("dead", "gone", attempts=1)
    for reason in ("endpoint_disabled", "expired", "worker_lost", "unrecordable"):
        await busy.letter(await busy.final("dead", reason))


async def lanes(busy: Busy) -> None:
    """Everything here has been due for an hour, and has reason to wait."""
    late = -3600.0
    rung, paused, metered, throttled = [await busy.endpoint("*") for _ in range(4)]
    for endpoint_id, state in (
        (rung, "ready_at = now() - interval '1 hour'"),
        (paused, "paused = true"),
        (metered, "ready_at = now() + interval '5 min', pace_per_sec = 1, paced_at = now()"),
        (throttled, "gate_reason = 'throttled', gate_until = now() + interval '1 hour'"),
    ):
        await rows(busy.conn, f"UPDATE lanes SET {state} WHERE endpoint_id = %s RETURNING 1", (endpoint_id,))
        await busy.waits(due_s=late, endpoint_id=endpoint_id)
    fifo = await busy.endpoint("*")
    for key, state in (
        ("fifo:blocked", "blocked_by = endpoint_id"),
        ("fifo:ready", "ready = true"),
        ("fifo:held", f"fence = 1, sent_at = now(), owner = {ALIVE}"),
        ("fifo:behind", "ready_at = now() + interval '1 hour'"),
    ):
        await rows(busy.conn, _LANE, (fifo, key, busy.tenant_id))
        await rows(busy.conn, f"UPDATE lanes SET {state} WHERE key = %s RETURNING 1", (key,))
        await busy.waits(due_s=3600 if key == "fifo:behind" else late, endpoint_id=fifo, lane=key, seq=1)
        await busy.waits(due_s=late, endpoint_id=fifo, lane=key, seq=2)


async def jobs(busy: Busy) -> None:
    done, runs, dry = [busy.ids() for _ in range(3)]
    for id, status, dry_run, total, made, skipped in (
        (done, "done", False, 5, 3, 2),
        (runs, "running", False, 900, 1, 0),
        (dry, "done", True, 900, 0, 0),
    ):
        await rows(
            busy.conn,
            """INSERT INTO jobs (id, tenant_id, kind, status, dry_run, input, total, done, skipped, finished_at)
               VALUES (%(id)s, %(tenant)s, 'replay', %(status)s, %(dry)s, '{}', %(total)s, %(made)s, %(skipped)s,
                   CASE WHEN %(status)s = 'done' THEN now() END) RETURNING 1""",
            {
                "id": id,
                "tenant": busy.tenant_id,
                "status": status,
                "dry": dry_run,
                "total": total,
                "made": made,
                "skipped": skipped,
            },  # pyright: ignore[reportArgumentType]
        )
    for _ in range(2):
        await busy.waits(due_s=60, job_id=done)
    event_id = await busy.event()
    await busy.fanned_out(event_id, matched=0)
    await busy.final("delivered", "ok", attempts=1, event_id=event_id, job_id=done)
    await busy.waits(due_s=60, job_id=runs)


@pytest.fixture
async def busy(conn: Conn) -> Busy:
    world = await make_world(conn)
    busy = Busy(conn, world.tenant_id, world.endpoint_id)
    await rows(conn, "INSERT INTO workers (no, name) VALUES (%s, 'here') RETURNING 1", (ALIVE,))
    for part in (intake, endings, lanes, jobs):
        await part(busy)
    await busy.under_way(owner=ALIVE)
    await busy.under_way(owner=None)
    return busy


@pytest.fixture
async def db(settings: Settings) -> AsyncIterator[Database]:
    db = Database(settings, connections=2)
    await db.open()
    yield db
    await db.close()


async def test_nothing_is_found_where_everything_fits(db: Database, busy: Busy) -> None:
    assert await offenders(db) == {}


async def test_between_its_steps_the_ledger_holds_no_connection(settings: Settings, busy: Busy) -> None:
    """The clock takes a step a second, and the rest of its process needs them meanwhile."""
    db, steps = Database(settings, connections=1), 0
    await db.open()
    try:
        async for _ in sweep(db, since=datetime.now(UTC) - timedelta(hours=1), keep_days=30):
            async with asyncio.timeout(2), db.connection():
                steps += 1
    finally:
        await db.close()
    assert steps > 10


async def test_a_delivery_that_died_after_somebody_repeated_it_is_no_offender(db: Database, conn: Conn) -> None:
    world = await make_world(conn)
    event = await world.event()
    await world.fanned_out(event, matched=1)
    first = await world.dispatched(event, owner=ALIVE)
    await rows(conn, "INSERT INTO workers (no, name) VALUES (%s, 'here') RETURNING 1", (ALIVE,))
    async with db.transaction() as other:
        await replay_to(other, world.tenant_id, event, world.endpoint_id, ids=world.ids)
    (delivery,) = [one for one in await owned_by(conn, ALIVE) if one.id == first]
    assert await record(conn, [recorded(delivery, Dead(Reason.ATTEMPTS_EXHAUSTED), status=503)]) == [first]
    assert await offenders(db) == {}


async def owned_by(conn: Conn, worker: int) -> list[Claimed]:
    """What a worker is sending."""
    found = await rows(
        conn,
        """SELECT id, fence, owner, tenant_id, event_id, endpoint_id, tier, lane, attempts, lost, created_at, 1 FROM live
           WHERE owner = %s""",
        (worker,),
    )
    return [Claimed(*one) for one in found]  # pyright: ignore[reportArgumentType]


#: What is done to a system in which all fits, by SQL that returns what must be named; and the checks that see it.
PLANTED = {
    "an event that nobody has": ("DELETE FROM outbox RETURNING event_id", [Check.EVENT]),
    "an event that is scheduled and in the outbox": (
        """INSERT INTO outbox (shard, tenant_id, event_id) SELECT 0, tenant_id, event_id FROM scheduled
           RETURNING event_id""",
        [Check.EVENT],
    ),
    "an event that is in the outbox twice": (
        "INSERT INTO outbox (shard, tenant_id, event_id) SELECT 1, tenant_id, event_id FROM outbox RETURNING event_id",
        [Check.EVENT],
    ),
    "deliveries that no fan-out made": (
        "DELETE FROM fanouts WHERE event_id IN (SELECT event_id FROM live WHERE owner IS NOT NULL) RETURNING event_id",
        [Check.EVENT, Check.FANOUT],
    ),
    "a delivery that was lost while it waited": (
        "DELETE FROM live WHERE owner IS NULL AND fence IS NOT NULL RETURNING event_id",
        [Check.FANOUT],
    ),
    "a delivery that was lost when it ended": (
        "DELETE FROM history WHERE reason = 'expired' RETURNING event_id, id",
        [Check.FANOUT, Check.DEAD_LETTER],
    ),
    "a delivery that is in both tables": (
        """INSERT INTO history (id, tenant_id, event_id, endpoint_id, state, tier, attempts, reason, created_at)
           SELECT id, tenant_id, event_id, endpoint_id, 'cancelled', tier, 0, 'drained', now() FROM live
           WHERE owner IS NOT NULL RETURNING event_id""",
        [Check.FANOUT],
    ),
    "a delivered one that was never answered well": (
        "UPDATE attempts SET status = 503 WHERE n = 3 RETURNING delivery_id",
        [Check.DELIVERED],
    ),
    "a dead one without its last attempt": (
        """UPDATE attempts SET n = 9 WHERE n = 1 AND delivery_id IN (SELECT id FROM history WHERE reason = 'gone')
           RETURNING delivery_id""",
        [Check.DEAD],
    ),
    "a dead one that was not tried": (
        "UPDATE history SET reason = 'attempts_exhausted' WHERE reason = 'worker_lost' RETURNING id",
        [Check.DEAD],
    ),
    "an attempt that was lost": (
        """DELETE FROM attempts WHERE n = 2 AND delivery_id IN (SELECT id FROM history WHERE attempts = 3)
           RETURNING delivery_id""",
        [Check.ATTEMPTS],
    ),
    "an attempt too many of a waiting one": (
        "UPDATE live SET attempts = 1 WHERE owner IS NOT NULL RETURNING id",
        [Check.ATTEMPTS],
    ),
    "an attempt of nothing": (
        """INSERT INTO attempts (delivery_id, n, tenant_id, endpoint_id, status, reason, request_url, total_ms)
           SELECT event_id, 1, tenant_id, endpoint_id, 200, 'ok', '', 1 FROM live WHERE owner IS NOT NULL
           RETURNING delivery_id""",
        [Check.ATTEMPTS],
    ),
    "a dead letter of a delivered one": (
        """INSERT INTO dead_letters (id, tenant_id, endpoint_id, event_id, reason)
           SELECT id, tenant_id, endpoint_id, event_id, reason FROM history WHERE attempts = 3 RETURNING id""",
        [Check.DEAD_LETTER],
    ),
    "a dead letter of a repeated one": (
        """INSERT INTO dead_letters (id, tenant_id, endpoint_id, event_id, reason, died_at)
           SELECT id, tenant_id, endpoint_id, event_id, reason, finished_at FROM history WHERE attempts = 2 RETURNING id""",
        [Check.DEAD_LETTER],
    ),
    "a worker that is silent": (
        "UPDATE workers SET beat_at = now() - interval '61 s' RETURNING no",
        [Check.OWNER],
    ),
    "a lane of nobody": (
        """UPDATE lanes SET owner = 12, sent_at = now() - interval '61 s' WHERE key = 'fifo:held'
           RETURNING endpoint_id, key, owner""",
        [Check.OWNER],
    ),
    "a delivery that nobody takes up": (
        "UPDATE live SET sent_at = now() - interval '61 s' WHERE fence IS NOT NULL AND owner IS NULL RETURNING id",
        [Check.UNCLAIMED],
    ),
    "a lane that nobody takes up": (
        """UPDATE lanes SET owner = NULL, sent_at = now() - interval '61 s' WHERE key = 'fifo:held'
           RETURNING endpoint_id, key""",
        [Check.UNCLAIMED],
    ),
    "a lane that sleeps": ("UPDATE lanes SET ready = false WHERE ready RETURNING endpoint_id, key", [Check.ASLEEP]),
    "a lane that sleeps for long": (
        "UPDATE lanes SET ready = false, ready_at = now() + interval '1 hour' WHERE ready RETURNING endpoint_id, key",
        [Check.ASLEEP],
    ),
    "a lane that is gone": ("DELETE FROM lanes WHERE ready RETURNING endpoint_id, key", [Check.ASLEEP]),
    "a lane whose gate was opened without a ring": (
        "UPDATE lanes SET paused = false WHERE paused RETURNING endpoint_id",
        [Check.ASLEEP],
    ),
    "a head that is due behind nothing": (
        """UPDATE live SET due_at = now() - interval '2 min' WHERE lane = 'fifo:behind' AND seq = 1
           RETURNING endpoint_id, lane, id""",
        [Check.ASLEEP],
    ),
    "a job whose delivery was lost": (
        """WITH x AS (DELETE FROM live WHERE job_id = (SELECT id FROM jobs WHERE status = 'running') RETURNING job_id)
           SELECT job_id FROM x""",
        [Check.JOB],
    ),
    "a job that did too much": (
        """UPDATE live SET job_id = (SELECT id FROM jobs WHERE status = 'running') WHERE owner IS NOT NULL
           RETURNING job_id""",
        [Check.JOB],
    ),
    "a job that left something out": (
        "UPDATE jobs SET total = 6 WHERE status = 'done' AND NOT dry_run RETURNING id",
        [Check.JOB],
    ),
    "an event that cannot be fanned out": (
        "UPDATE outbox SET failed_reason = 'it is odd' RETURNING event_id",
        [Check.SET_ASIDE],
    ),
}


class Inside(Database):
    """Lends the one connection of a transaction that is rolled back."""

    def __init__(self, conn: Conn) -> None:
        self._conn = conn

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Conn]:
        yield self._conn


async def test_each_thing_that_does_not_fit_is_named(busy: Busy) -> None:
    for what, (query, checks) in PLANTED.items():
        async with busy.conn.transaction(force_rollback=True):
            planted = await rows(busy.conn, query)
            found = await offenders(Inside(busy.conn))
        assert set(found) == set(checks), (what, found)
        named = {id for one in found.values() for offender in one.offenders for id in offender.ids}
        assert planted, what
        assert {str(value) for row in planted for value in row} <= named, (what, found)
        assert all(offender.sentence.endswith(".") for one in found.values() for offender in one.offenders), what


async def test_what_is_older_is_not_compared(db: Database, busy: Busy) -> None:
    await busy.event(ago=timedelta(hours=2))
    assert await offenders(db) == {}
    assert set(await offenders(db, since=timedelta(hours=3))) == {Check.EVENT}


async def test_many_are_counted_and_some_are_listed(db: Database, busy: Busy, monkeypatch: pytest.MonkeyPatch) -> None:
    """In chunks so small that the ledger has to go on after each."""
    monkeypatch.setattr(ledger, "_SIZES", (7, 7))
    monkeypatch.setattr(ledger, "_FIRST_SIZE", 7)
    monkeypatch.setattr(ledger, "_LANES", 3)
    lost = sorted([str(await busy.event()) for _ in range(LISTED + 20)])
    (one,) = (await offenders(db)).values()
    assert one.count == LISTED + 20
    assert [offender.ids for offender in one.offenders] == [(id,) for id in lost[:LISTED]]


async def test_the_ledger_reads_on_while_a_job_makes_deliveries(db: Database, busy: Busy) -> None:
    (job_id,) = (await rows(busy.conn, "SELECT id FROM jobs WHERE status = 'running'"))[0]

    async def run() -> None:
        for _ in range(100):
            async with busy.conn.transaction():
                await busy.waits(due_s=60, job_id=job_id)  # pyright: ignore[reportArgumentType]
                await rows(busy.conn, "UPDATE jobs SET done = done + 1 WHERE id = %s RETURNING 1", (job_id,))

    running = asyncio.ensure_future(run())
    while not running.done():
        assert await offenders(db) == {}
    await running


@given(st.integers(min_value=100, max_value=20_000), st.floats(min_value=0, max_value=60), st.sampled_from([0.1, 0.5]))
def test_a_chunk_shrinks_when_it_took_too_long_and_grows_when_it_was_quick(
    size: int, took_s: float, statement_s: float
) -> None:
    chosen = next_size(size, took_s, statement_s)
    assert 100 <= chosen <= 20_000
    if took_s > statement_s:
        assert chosen < size or size == 100
    else:
        assert chosen >= size


def test_no_rows_are_nothing_found() -> None:
    assert found(Check.JOB, [], lambda: pytest.fail("there is no row")) == Found(Check.JOB, 0, ())
