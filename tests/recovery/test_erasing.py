"""Erasure against rows as they may lie: each kind of delivery, kills, races, archived days."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from relay import archive, partitions
from relay.db import Database
from relay.delivery.deliveries import DeliveryStatus
from relay.errors import Conflict
from relay.intake.accept import NewEvent
from relay.queue import Queue
from relay.recovery import erasing, jobs
from relay.recovery.batch import oldest
from relay.recovery.erase_spec import EraseSpec
from relay.recovery.job_runner import JobRunner
from relay.recovery.jobs import Job, JobStatus
from relay.recovery.replay import finals_of_events, replay, replay_event, replay_to
from relay.recovery.start_erasure import start_erasure
from relay.recovery.targets import Refusal
from relay.settings import Settings
from relay.verify.findings import Found
from relay.verify.ledger import sweep
from tests.delivery.crew import rows
from tests.rows import World, make_world
from tests.running import until, until_so
from tests.shop import accepted, open_shop

#: Of all but the notice of the job's end.
CONTENT = """SELECT count(*) FROM events
             WHERE NOT starts_with(type, 'relay.') AND (payload IS NOT NULL OR headers IS NOT NULL OR subject IS NOT NULL)"""


@pytest.fixture
async def db(settings: Settings) -> AsyncIterator[Database]:
    database = Database(settings)
    await database.open()
    yield database
    await database.close()


@pytest.fixture
async def runner(db: Database, settings: Settings, world: World) -> AsyncIterator[JobRunner]:
    queue = Queue(settings.redis_url, pool_size=2, timeout_s=2)
    yield JobRunner(db, queue, ids=world.ids)
    await queue.close()


async def ask(world: World, db: Database, **asked: Any) -> Job:
    return await start_erasure(db, world.tenant_id, EraseSpec(**asked), id=world.ids(), asked_by="test")


async def run(world: World, runner: JobRunner, id: UUID) -> Job:
    runner.start(id)
    await until(lambda: not runner._tasks, 20, what="the end of the job")
    found = await jobs.find(world.conn, world.tenant_id, id)
    assert found is not None
    return found


async def findings(db: Database) -> list[Found]:
    """What `relay verify` finds wrong."""
    since = datetime.now(UTC) - timedelta(hours=1)
    return [one async for one in sweep(db, since=since, keep_days=30) if one.count]


async def test_all_that_is_asked_for_must_hold_and_a_dry_run_only_counts(
    world: World, db: Database, runner: JobRunner
) -> None:
    wanted = await world.event("order.paid", subject="user/1")
    for type, subject in (("order.paid", "user/2"), ("bill.paid", "user/1"), (None, None)):
        await world.event(type, subject=subject)
    other = await make_world(world.conn, "other")
    await other.event("order.paid", subject="user/1")
    dry = await ask(world, db, subject="user/1", event_types=["order.*"], dry_run=True)
    assert (dry.status, dry.total, dry.skipped) == (JobStatus.DONE, 1, 0)
    assert await rows(world.conn, "SELECT count(*) FROM events WHERE payload IS NULL") == [(0,)]
    job = await run(world, runner, (await ask(world, db, subject="user/1", event_types=["order.*"])).id)
    assert (job.status, job.total, job.done) == (JobStatus.DONE, 1, 1)
    assert job.result is not None
    assert (job.result["askedBy"], job.result["events"], len(job.result["sha256"])) == ("test", 1, 64)
    assert job.input["subject"].startswith("sha256:")
    assert await rows(world.conn, "SELECT id FROM events WHERE payload IS NULL") == [(wanted,)]
    again = await run(world, runner, (await ask(world, db, ids=[wanted])).id)
    assert (again.done, again.skipped) == (0, 1)


async def test_what_waits_is_cancelled_what_is_dead_is_settled_and_nothing_brings_it_back(
    world: World, db: Database, runner: JobRunner
) -> None:
    event = await world.event(subject="user/1")
    await world.fanned_out(event, matched=3)
    waiting, handed_out = await world.waiting(event, attempts=1), await world.dispatched(event)
    dead = await world.finished(event, "dead")
    for delivery in (waiting, dead):
        await world.attempt(delivery)
    job = await run(world, runner, (await ask(world, db, ids=[event])).id)
    assert job.result is not None
    assert {name: job.result[name] for name in ("events", "deliveries", "cancelled", "attempts")} == {
        "events": 1, "deliveries": 3, "cancelled": 2, "attempts": 2,
    }  # fmt: skip
    found = await rows(world.conn, "SELECT id, state, reason FROM history ORDER BY id")
    assert found == [
        (waiting, "cancelled", "erased"), (handed_out, "cancelled", "erased"), (dead, "dead", "attempts_exhausted"),
    ]  # fmt: skip
    assert await rows(world.conn, "SELECT count(*) FROM dead_letters") == [(0,)]
    assert await rows(world.conn, "SELECT count(*) FROM attempts WHERE body IS NOT NULL") == [(0,)]
    async with db.transaction() as conn:
        with pytest.raises(Conflict, match="erased"):
            await replay_event(conn, world.tenant_id, event, ids=world.ids)
        with pytest.raises(Conflict, match="erased"):
            await replay_to(conn, world.tenant_id, event, world.endpoint_id, ids=world.ids)
        finals = await finals_of_events(conn, world.tenant_id, [event], states=["dead", "cancelled"])
        results = await replay(conn, world.tenant_id, finals, ids=world.ids)
        assert await oldest(conn, world.tenant_id, frozenset({DeliveryStatus.CANCELLED}), limit=9) == []
    assert set(results.values()) == {Refusal.ERASED}
    assert await findings(db) == []


async def test_what_is_being_sent_is_waited_for(world: World, db: Database, runner: JobRunner) -> None:
    first, second = await world.event(), await world.event()
    for event in (first, second):
        await world.fanned_out(event, matched=1)
    await world.finished(first)
    sending = await world.dispatched(second, owner=1)
    id = (await ask(world, db, ids=[first, second])).id
    runner.start(id)

    async def waits() -> bool:
        return (await rows(world.conn, "SELECT done FROM jobs WHERE id = %s", (id,))) == [(1,)]

    await until_so(waits)
    assert await rows(world.conn, "SELECT id FROM events WHERE payload IS NOT NULL") == [(second,)]
    await world.move_to_history(sending, "delivered")
    await world.attempt(sending)
    job = await run(world, runner, id)
    assert (job.status, job.done, job.total) == (JobStatus.DONE, 2, 2)
    assert await rows(world.conn, CONTENT) == [(0,)]
    assert await rows(world.conn, "SELECT count(*) FROM attempts WHERE body IS NOT NULL") == [(0,)]


async def test_an_event_that_is_not_fanned_out_is_never_sent_and_its_key_stays_taken(
    settings: Settings, world: World, db: Database, runner: JobRunner
) -> None:
    async with open_shop(settings) as shop:
        new = [
            NewEvent(world.tenant_id, b'{"n":1}', "a.b", subject="user/1", idempotency_key="k"),
            NewEvent(world.tenant_id, b'{"n":2}', "a.b", subject="user/1", delay_s=3600),
        ]
        accepted(await shop.accept(*new))
        job = await run(world, runner, (await ask(world, db, subject="user/1")).id)
        assert (job.done, (job.result or {})["cancelled"]) == (2, 2)
        for table in ("outbox", "scheduled"):
            # The notice of the job's end is the one thing that waits.
            query = f"SELECT count(*) FROM {table} o JOIN events e ON e.id = o.event_id WHERE e.type = 'a.b'"
            assert await rows(world.conn, query) == [(0,)]
        assert await rows(world.conn, "SELECT count(*) FROM fanouts WHERE cancelled") == [(2,)]
        (again,) = await shop.accept(new[0])
        assert isinstance(again, Conflict)
    assert await findings(db) == []


async def die_in_a_chunk(db: Database, id: UUID) -> None:
    """Do a chunk whose process ends before the commit."""
    with suppress(asyncio.CancelledError):
        async with db.transaction() as conn:
            job = await jobs.lock_running(conn, id)
            assert job is not None
            assert (await erasing.erase_next(conn, job)).done == 2
            raise asyncio.CancelledError


async def test_a_chunk_that_is_killed_is_done_again_and_counted_once(
    world: World, db: Database, runner: JobRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = [await world.event(subject="user/1") for _ in range(7)]
    monkeypatch.setattr(erasing, "CHUNK", 2)
    id = (await ask(world, db, subject="user/1")).id
    async with db.connection() as conn:
        await jobs.begin(conn, id)
        await jobs.begin_work(conn, id, total=7)
    await die_in_a_chunk(db, id)
    assert await rows(world.conn, "SELECT count(*) FROM events WHERE payload IS NULL") == [(0,)]
    done = await run(world, runner, id)
    assert (done.done, done.skipped, (done.result or {})["events"]) == (7, 0, 7)
    assert await rows(world.conn, "SELECT count(*) FROM events WHERE payload IS NULL") == [(len(events),)]


async def test_days_in_the_archive_are_erased_and_can_be_restored(
    world: World, db: Database, runner: JobRunner, settings: Settings
) -> None:
    now = datetime.now(UTC)
    day = (now - timedelta(days=40)).date()
    with psycopg.connect(settings.database_url, autocommit=True) as plain:
        partitions.ensure(plain, now=now - timedelta(days=40))
        event = await world.event(subject="user/1", ago=timedelta(days=40))
        await world.fanned_out(event, matched=0)
        archive.put(plain, day)
        assert await rows(world.conn, "SELECT count(*) FROM events") == [(0,)]
        job = await run(world, runner, (await ask(world, db, subject="user/1")).id)
        assert (job.status, job.done) == (JobStatus.DONE, 1)
        archive.restore(plain, day, until=now + timedelta(days=1))
    assert await rows(world.conn, "SELECT id, payload, subject FROM events WHERE id = %s", (event,)) == [
        (event, None, None)
    ]
