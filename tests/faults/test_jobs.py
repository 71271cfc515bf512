"""A job outlives what runs it, and never does an item twice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from relay.db import Conn
from relay.recovery import jobs
from relay.recovery.jobs import Job, JobStatus
from relay.recovery.replay_spec import ReplaySpec
from relay.recovery.start_replay import start_replay
from tests.delivery.crew import fan_out, rows
from tests.faults.conftest import StartWorker
from tests.running import until, until_true
from tests.scale import sized, tell
from tests.shop import Shop
from tests.sink import Sink

COUNT = sized(10_000, 400)
RATE = 200
#: A quarter of the list takes this long, and a good part of it again while a killed worker is missed.
PATIENCE_S = 10 + 2 * COUNT / 4 / RATE
#: What a job makes at a time: as many requests may have been sent and not recorded when a kill comes, and are repeated.
CHUNK = RATE // 4


async def backfill(shop: Shop, endpoint_id: UUID, *, rate: int) -> Job:
    now = datetime.now(UTC)
    spec = ReplaySpec(
        since=now - timedelta(hours=1), until=now + timedelta(hours=1), to_endpoint_id=endpoint_id, rate_per_sec=rate
    )
    job = await start_replay(shop.web.db, shop.tenant_id, spec, id=shop.web.ids())
    await shop.web.hint(shop.web.queue.enqueue([jobs.hint(job.id)]))
    return job


async def look(shop: Shop, id: UUID) -> Job:
    async with shop.web.db.connection() as conn:
        found = await jobs.find(conn, shop.tenant_id, id)
    assert found is not None
    return found


async def made(conn: Conn, job: Job) -> list[object]:
    """The events of the job's deliveries, in order, each as often as it has one."""
    found = await rows(
        conn,
        """SELECT event_id::text FROM (
               SELECT event_id, job_id FROM live UNION ALL SELECT event_id, job_id FROM history) d
           WHERE job_id = %s ORDER BY event_id""",
        (job.id,),
    )
    return [row[0] for row in found]


async def test_a_paced_backfill_is_paused_killed_resumed_and_cancelled_without_doing_anything_twice(
    shop: Shop, start_worker: StartWorker, conn: Conn
) -> None:
    sent = await shop.send(COUNT)
    await fan_out(shop)
    with Sink() as sink:
        new = await shop.endpoint(sink.url())
        process = start_worker()
        job = await backfill(shop, new, rate=RATE)
        await until_true(conn, "SELECT done >= total / 4 FROM jobs", PATIENCE_S)
        async with shop.web.db.connection() as c:
            paused = await jobs.pause(c, shop.tenant_id, job.id)
        await until(lambda: len(sink.events()) >= paused.done, 10, what="what was made so far")
        await until_true(conn, "SELECT NOT EXISTS (SELECT 1 FROM live)", 10)
        process.kill()
        process.start()
        async with shop.web.db.connection() as c:
            await jobs.resume(c, shop.tenant_id, job.id)
        await shop.web.hint(shop.web.queue.enqueue([jobs.hint(job.id)]))
        await until_true(conn, "SELECT done >= total / 2 FROM jobs", PATIENCE_S)
        process.kill()
        process.start()
        await until_true(conn, "SELECT done >= total * 3 / 4 FROM jobs", PATIENCE_S)
        async with shop.web.db.connection() as c:
            cancelled = await jobs.cancel(c, shop.tenant_id, job.id)
        assert (cancelled.status, cancelled.total) == (JobStatus.CANCELLED, COUNT)
        assert (cancelled.skipped, cancelled.failed) == (0, 0)
        assert await made(conn, job) == sorted(sent)[: cancelled.done]
        rest = await backfill(shop, new, rate=10_000)
        await until_true(conn, "SELECT count(*) = 1 FROM jobs WHERE status = 'done'", PATIENCE_S)
        finished = await look(shop, rest.id)
        assert (finished.total, finished.done, finished.skipped) == (COUNT, COUNT - cancelled.done, cancelled.done)
        assert await made(conn, rest) == sorted(sent)[cancelled.done :]
        process.kill()
    assert set(sink.events()) <= set(sent)
    repeated = sum(times - 1 for times in sink.events().values())
    assert repeated <= CHUNK, "only what the second kill found on its way"
    tell(f"{COUNT} events, cancelled at {cancelled.done}, every one has one delivery; {repeated} requests came again")


async def test_without_a_hint_the_clock_starts_a_job(shop: Shop, start_worker: StartWorker, conn: Conn) -> None:
    (event,) = await shop.send(1)
    await fan_out(shop)
    with Sink() as sink:
        new = await shop.endpoint(sink.url())
        await backfill(shop, new, rate=1)
        await shop.web.queue._redis.flushdb()
        start_worker()
        await until(lambda: event in sink.events(), 15, what="the arrival")
        await until_true(conn, "SELECT status = 'done' FROM jobs", 5)
