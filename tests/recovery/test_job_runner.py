from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from relay.db import Database
from relay.delivery.deliveries import DeliveryStatus
from relay.errors import Conflict, NotFound
from relay.queue import Queue
from relay.recovery import jobs
from relay.recovery.cancel import cancel
from relay.recovery.job_runner import JobRunner
from relay.recovery.jobs import Job, JobStatus
from relay.recovery.replay_spec import ReplaySpec
from relay.recovery.start_replay import start_replay
from relay.settings import Settings
from tests.delivery.crew import rows
from tests.rows import World, make_world
from tests.running import until

NOW = datetime.now(UTC)
WINDOW: dict[str, Any] = {"since": NOW - timedelta(hours=1), "until": NOW + timedelta(hours=1)}


@pytest.fixture
async def db(settings: Settings) -> AsyncIterator[Database]:
    database = Database(settings)
    await database.open()
    yield database
    await database.close()


@pytest.fixture
async def queue(settings: Settings) -> AsyncIterator[Queue]:
    made = Queue(settings.redis_url, pool_size=2, timeout_s=2)
    yield made
    await made.close()


@pytest.fixture
def runners(db: Database, queue: Queue, world: World) -> list[JobRunner]:
    """Three processes that run jobs."""
    return [JobRunner(db, queue, ids=world.ids) for _ in range(3)]


async def started(world: World, db: Database, **asked: Any) -> Job:
    return await start_replay(db, world.tenant_id, ReplaySpec(**{**WINDOW, **asked}), id=world.ids())


async def run(runners: list[JobRunner], *ids: UUID) -> None:
    """Run these jobs to their end, in all these processes at once."""
    for runner in runners:
        for id in ids:
            runner.start(id)
    await until(lambda: not any(runner._tasks for runner in runners), 20, what="the end of the jobs")


async def job(world: World, id: UUID) -> Job:
    found = await jobs.find(world.conn, world.tenant_id, id)
    assert found is not None
    return found


async def fanned_out(world: World, count: int) -> list[UUID]:
    made = [await world.event() for _ in range(count)]
    for event in made:
        await world.fanned_out(event, matched=1)
    return made


async def test_a_replay_repeats_what_is_dead_and_skips_what_is_settled(
    world: World, db: Database, runners: list[JobRunner]
) -> None:
    event = await world.event()
    dead = [await world.finished(event, "dead") for _ in range(5)]
    await cancel(world.conn, world.tenant_id, dead[0])
    gone = await world.endpoint()
    await world.finished(event, "dead", endpoint_id=gone)
    await rows(world.conn, "UPDATE endpoints SET deleted_at = now() WHERE id = %s RETURNING 1", (gone,))
    id = (await started(world, db)).id
    await run(runners[:1], id)
    found = await job(world, id)
    assert (found.status, found.total, found.done, found.skipped, found.failed) == (JobStatus.DONE, 6, 4, 1, 1)
    assert found.finished_at is not None
    assert await told(world) == [("relay.job.done", str(id), "DONE")]
    made = await rows(world.conn, "SELECT replay_of, first, job_id FROM live ORDER BY id")
    assert made == [(one, False, id) for one in dead[1:]]


async def test_two_processes_at_one_job_do_each_item_once(world: World, db: Database, runners: list[JobRunner]) -> None:
    new = await world.endpoint()
    events = await fanned_out(world, 60)
    spec = {"to_endpoint_id": new, "rate_per_sec": 40}
    first, second = (await started(world, db, **spec)).id, (await started(world, db, **spec)).id
    await run(runners, first, second)
    for _ in range(3):
        await run(runners, first, second)
    counted = [
        (one.status, one.total, one.done + one.skipped) for one in (await job(world, first), await job(world, second))
    ]
    assert counted == [(JobStatus.DONE, 60, 60)] * 2
    made = await rows(world.conn, "SELECT event_id FROM live ORDER BY event_id")
    assert made == [(event,) for event in events]


async def test_a_rate_is_kept(world: World, db: Database, runners: list[JobRunner]) -> None:
    new = await world.endpoint()
    await fanned_out(world, 60)
    id = (await started(world, db, to_endpoint_id=new, rate_per_sec=40)).id
    await run(runners[:1], id)
    (took,) = await rows(world.conn, "SELECT extract(epoch FROM max(created_at) - min(created_at))::float8 FROM live")
    assert isinstance(took[0], float)
    assert took[0] >= 50 / 40 - 0.3


async def test_a_stopped_process_leaves_its_job_where_it_stands(
    world: World, db: Database, runners: list[JobRunner]
) -> None:
    new = await world.endpoint()
    await fanned_out(world, 30)
    id = (await started(world, db, to_endpoint_id=new, rate_per_sec=20)).id
    runner = runners[0]
    runner.start(id)
    deadline = asyncio.get_running_loop().time() + 10
    while not (await job(world, id)).done:
        assert asyncio.get_running_loop().time() < deadline
    await runner.stop()
    runner.start(id)
    stopped = await job(world, id)
    assert (stopped.status, runner._tasks) == (JobStatus.RUNNING, {})
    assert await rows(world.conn, "SELECT count(*) FROM live") == [(stopped.done,)]


async def test_a_paused_job_goes_on_where_it_stopped_and_a_cancelled_one_does_not(
    world: World, db: Database, runners: list[JobRunner]
) -> None:
    new = await world.endpoint()
    await fanned_out(world, 10)
    id = (await started(world, db, to_endpoint_id=new)).id
    await jobs.begin_work(world.conn, id, total=10)
    await jobs.pause(world.conn, world.tenant_id, id)
    await run(runners[:1], id)
    assert (await job(world, id)).done == 0
    await jobs.resume(world.conn, world.tenant_id, id)
    await run(runners[:1], id)
    assert ((await job(world, id)).status, (await job(world, id)).done) == (JobStatus.DONE, 10)
    again = (await started(world, db, to_endpoint_id=await world.endpoint())).id
    await jobs.cancel(world.conn, world.tenant_id, again)
    await run(runners[:1], again)
    assert await rows(world.conn, "SELECT count(*) FROM live WHERE job_id = %s", (again,)) == [(0,)]


async def test_a_backfill_sends_what_the_endpoints_filter_lets_through(
    world: World, db: Database, runners: list[JobRunner]
) -> None:
    new = await world.endpoint()
    events = await fanned_out(world, 4)
    await rows(world.conn, "UPDATE events SET payload = '{\"a\": 7}' WHERE id = ANY(%s) RETURNING 1", (events[1:3],))
    filter = '{"path": "$.a", "lt": 100}'
    await rows(world.conn, "UPDATE endpoints SET filter = %s WHERE id = %s RETURNING 1", (filter, new))
    id = (await started(world, db, to_endpoint_id=new)).id
    await run(runners[:1], id)
    done = await job(world, id)
    assert (done.status, done.done, done.skipped) == (JobStatus.DONE, 2, 2)
    assert await rows(world.conn, "SELECT event_id FROM live ORDER BY event_id") == [(one,) for one in events[1:3]]


async def test_a_job_whose_endpoint_is_gone_fails_and_says_why(
    world: World, db: Database, runners: list[JobRunner]
) -> None:
    new = await world.endpoint()
    await fanned_out(world, 3)
    id = (await started(world, db, to_endpoint_id=new)).id
    await rows(world.conn, "UPDATE endpoints SET deleted_at = now() WHERE id = %s RETURNING 1", (new,))
    await run(runners[:1], id)
    found = await job(world, id)
    assert (found.status, found.error) == (JobStatus.FAILED, "Its endpoint is deleted.")
    assert await told(world) == [("relay.job.done", str(id), "FAILED")]


async def told(world: World) -> list[tuple[object, ...]]:
    return await rows(
        world.conn,
        """SELECT type, convert_from(payload, 'UTF8')::jsonb ->> 'jobId', convert_from(payload, 'UTF8')::jsonb ->> 'status'
           FROM events WHERE type ^@ 'relay.'""",
    )


async def test_a_dry_run_counts_and_does_nothing(world: World, db: Database) -> None:
    event = await world.event()
    dead = [await world.finished(event, "dead") for _ in range(3)]
    await cancel(world.conn, world.tenant_id, dead[0])
    counted = await started(world, db, dry_run=True)
    assert (counted.status, counted.dry_run) == (JobStatus.DONE, True)
    assert (counted.total, counted.skipped, counted.done) == (3, 1, 0)
    assert await rows(world.conn, "SELECT count(*) FROM live") == [(0,)]


async def test_delivered_ones_are_repeated_once_by_a_job_that_never_meets_its_own(
    world: World, db: Database, runners: list[JobRunner]
) -> None:
    event = await world.event()
    await world.finished(event)
    id = (await started(world, db, statuses=[DeliveryStatus.DELIVERED])).id
    await run(runners[:1], id)
    (row,) = await rows(world.conn, "SELECT id FROM live")
    assert isinstance(row[0], UUID)
    await world.move_to_history(row[0], "delivered")
    await run(runners[:1], id)
    assert (await job(world, id)).done == 1


async def test_a_replay_needs_an_endpoint_of_the_client_that_is_enabled(world: World, db: Database) -> None:
    other = await make_world(world.conn, "other")
    for field in ("endpoint_id", "to_endpoint_id"):
        with pytest.raises(NotFound):
            await started(world, db, **{field: other.endpoint_id})
    await rows(
        world.conn,
        "UPDATE endpoints SET status = 'disabled', disabled_at = now(), disabled_reason = 'gone' RETURNING 1",
    )
    with pytest.raises(Conflict, match="disabled"):
        await started(world, db, to_endpoint_id=world.endpoint_id)


async def test_a_backfill_of_an_ordered_endpoint_finds_each_events_lane(
    world: World, db: Database, runners: list[JobRunner]
) -> None:
    new = await world.endpoint()
    await rows(
        world.conn,
        "UPDATE endpoints SET fifo = true, fifo_partition_key = '$.a' WHERE id = %s RETURNING 1",
        (new,),
    )
    events = await fanned_out(world, 3)
    id = (await started(world, db, to_endpoint_id=new)).id
    await run(runners, id)
    made = await rows(world.conn, "SELECT event_id, tier, lane, seq FROM live ORDER BY seq")
    assert made == [(event, 1, "fifo:100.0", seq) for seq, event in enumerate(events, 1)]


async def test_the_clock_hints_what_nobody_is_at(
    world: World, db: Database, runners: list[JobRunner], queue: Queue
) -> None:
    await started(world, db)
    (chore,) = runners[0].chores()
    await chore.do()
    assert await queue.length("housekeeping") == 0
    await rows(world.conn, "UPDATE jobs SET next_at = now() - interval '2 s' RETURNING 1")
    await chore.do()
    assert await queue.length("housekeeping") == 1
