from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from relay.errors import Conflict, NotFound
from relay.recovery import jobs
from relay.recovery.jobs import Job, JobKind, JobStatus
from tests.delivery.crew import rows
from tests.rows import World, make_world


async def made(world: World, rate: int | None = None) -> Job:
    return await jobs.create(
        world.conn, world.tenant_id, id=world.ids(), kind=JobKind.REPLAY, input={"a": 1}, rate_per_sec=rate
    )


async def status(world: World, id: UUID) -> JobStatus:
    found = await jobs.find(world.conn, world.tenant_id, id)
    assert found is not None
    return found.status


async def test_a_job_is_paused_resumed_and_cancelled_and_then_stays_so(world: World) -> None:
    id = (await made(world)).id
    assert (await jobs.pause(world.conn, world.tenant_id, id)).status is JobStatus.PAUSED
    with pytest.raises(Conflict, match="PAUSED"):
        await jobs.pause(world.conn, world.tenant_id, id)
    assert (await jobs.resume(world.conn, world.tenant_id, id)).status is JobStatus.WAITING
    await jobs.begin_work(world.conn, id, total=3)
    await jobs.pause(world.conn, world.tenant_id, id)
    assert (await jobs.resume(world.conn, world.tenant_id, id)).status is JobStatus.RUNNING
    cancelled = await jobs.cancel(world.conn, world.tenant_id, id)
    assert cancelled.status is JobStatus.CANCELLED
    assert cancelled.finished_at is not None
    for change in (jobs.pause, jobs.resume, jobs.cancel):
        with pytest.raises(Conflict, match="CANCELLED"):
            await change(world.conn, world.tenant_id, id)
    await jobs.fail(world.conn, id, error="late")
    assert await status(world, id) is JobStatus.CANCELLED


async def test_another_clients_job_is_not_found(world: World) -> None:
    job, other = await made(world), await make_world(world.conn, "other")
    for tenant_id, id in ((other.tenant_id, job.id), (world.tenant_id, uuid4())):
        assert await jobs.find(world.conn, tenant_id, id) is None
        for change in (jobs.pause, jobs.resume, jobs.cancel):
            with pytest.raises(NotFound):
                await change(world.conn, tenant_id, id)
    assert await jobs.count(world.conn, other.tenant_id) == 0


async def test_a_paused_job_is_begun_by_nobody_and_one_that_waits_by_one(world: World) -> None:
    first, second = await made(world), await made(world)
    await jobs.pause(world.conn, world.tenant_id, first.id)
    assert await jobs.begin(world.conn, first.id) is None
    assert await jobs.begin(world.conn, second.id) is not None
    assert await jobs.begin(world.conn, second.id) is None


async def test_only_jobs_that_nobody_is_at_are_hinted(world: World) -> None:
    neglected, fresh, paused = [await made(world) for _ in range(3)]
    for job in (neglected, paused):
        await rows(world.conn, "UPDATE jobs SET next_at = now() - interval '2 s' WHERE id = %s RETURNING 1", (job.id,))
    await jobs.pause(world.conn, world.tenant_id, paused.id)
    assert await jobs.neglected(world.conn) == [neglected.id]
    assert await status(world, fresh.id) is JobStatus.WAITING


async def test_a_late_job_catches_up_with_a_moment_only(world: World) -> None:
    job = await made(world, rate=100)
    await jobs.begin_work(world.conn, job.id, total=1000)
    await rows(world.conn, "UPDATE jobs SET next_at = now() - interval '1 hour' RETURNING 1")
    for _ in range(2):
        await jobs.advance(world.conn, job.id, cursor=job.id, done=25, skipped=1, failed=0, pause_s=0.25)
    found = await jobs.lock_running(world.conn, job.id)
    assert found is not None
    assert -2.5 < found.wait_s <= 0.25
    assert (found.done, found.skipped, found.cursor, found.eta_s) == (50, 2, job.id, 9.48)


async def test_jobs_are_listed_newest_first(world: World) -> None:
    ids = [(await made(world)).id for _ in range(3)]
    page = await jobs.list_(world.conn, world.tenant_id, first=2)
    assert [one.id for one in page.items] == ids[:0:-1]
    rest = await jobs.list_(world.conn, world.tenant_id, first=2, after=ids[1])
    assert ([one.id for one in rest.items], rest.has_next) == ([ids[0]], False)
