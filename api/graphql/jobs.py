"""Jobs as GraphQL shows them, and what can be done with them."""

from __future__ import annotations

from datetime import datetime

import strawberry
from strawberry import UNSET

from api.graphql.audited import Audited, audited, note
from api.graphql.context import RelayInfo
from api.graphql.ids import find_id, get_id
from api.graphql.inputs import ReplayInput, replay_spec
from api.graphql.needs import Needs
from api.graphql.paging import Connection, first_and_after, listed
from api.graphql.scalars import Json, SafeInt
from relay.db import Conn
from relay.recovery import jobs
from relay.recovery.jobs import Job, JobKind, JobStatus
from relay.recovery.start_replay import start_replay
from relay.tenancy.audit import Subject
from relay.tenancy.scopes import Scope

_READ = [Needs(scope=Scope.READ)]
_MANAGE = [Needs(scope=Scope.MANAGE)]


@strawberry.type(description="Durable: survives restarts, never does an item twice.")
class BulkJob:
    """Work that outlives a request."""

    id: strawberry.ID
    kind: JobKind
    status: JobStatus
    dry_run: bool
    total: SafeInt | None = strawberry.field(description="Counted at the start; null until then.")
    done: SafeInt
    skipped: SafeInt
    failed: SafeInt
    rate_per_sec: int | None
    input: Json
    result: Json | None = strawberry.field(description="Kind by kind, e.g. an erasure's receipt.")
    error: str | None
    eta_seconds: float | None
    created_at: datetime
    finished_at: datetime | None


def job_node(record: Job) -> BulkJob:
    """Show a job."""
    return BulkJob(
        id=strawberry.ID(str(record.id)),
        kind=record.kind,
        status=record.status,
        dry_run=record.dry_run,
        total=None if record.total is None else SafeInt(record.total),
        done=SafeInt(record.done),
        skipped=SafeInt(record.skipped),
        failed=SafeInt(record.failed),
        rate_per_sec=record.rate_per_sec,
        input=Json(record.input),
        result=None if record.result is None else Json(record.result),
        error=record.error,
        eta_seconds=record.eta_s,
        created_at=record.created_at,
        finished_at=record.finished_at,
    )


@strawberry.type
class JobQuery:
    """Jobs to look at."""

    @strawberry.field(directives=_READ)
    async def job(self, info: RelayInfo, id: strawberry.ID) -> BulkJob | None:
        """One job."""
        key = find_id(id)
        async with info.context.db.connection() as conn:
            found = await jobs.find(conn, info.context.tenant_id, key) if key else None
        return job_node(found) if found else None

    @strawberry.field(directives=_READ)
    async def jobs(self, info: RelayInfo, first: int | None = 20, after: str | None = UNSET) -> Connection[BulkJob]:
        """Jobs, newest first."""
        db, tenant_id = info.context.db, info.context.tenant_id
        at = first_and_after(first, after)
        return await listed(
            db,
            at,
            page=lambda conn, first, after: jobs.list_(conn, tenant_id, first=first, after=after),
            count=lambda conn: jobs.count(conn, tenant_id),
            node=job_node,
        )


@strawberry.type
class JobMutation:
    """What can be done with jobs."""

    @strawberry.mutation(directives=_MANAGE)
    async def start_replay(self, info: RelayInfo, input: ReplayInput) -> BulkJob:
        """Repeat many deliveries, or send many events to one endpoint."""
        web = info.context.web

        async def started(conn: Conn, job: Job) -> None:
            after = {"kind": job.kind, "input": job.input, "ratePerSec": job.rate_per_sec}
            await note(info, Subject.JOB, Audited(conn, job.id, after=after))

        job = await start_replay(web.db, info.context.tenant_id, replay_spec(input), id=web.ids(), started=started)
        if not job.dry_run:
            await web.hint(web.queue.enqueue([jobs.hint(job.id)]))
        return job_node(job)

    @strawberry.mutation(directives=_MANAGE)
    async def pause_job(self, info: RelayInfo, id: strawberry.ID) -> BulkJob:
        """Stop a job for a while."""
        key = get_id(id, of="job")
        async with audited(info, Subject.JOB, key) as change:
            job = await jobs.pause(change.conn, info.context.tenant_id, key)
            change.after = {"status": job.status}
        return job_node(job)

    @strawberry.mutation(directives=_MANAGE)
    async def resume_job(self, info: RelayInfo, id: strawberry.ID) -> BulkJob:
        """Let a paused job go on where it stopped."""
        web, key = info.context.web, get_id(id, of="job")
        async with audited(info, Subject.JOB, key) as change:
            job = await jobs.resume(change.conn, info.context.tenant_id, key)
            change.after = {"status": job.status}
        await web.hint(web.queue.enqueue([jobs.hint(key)]))
        return job_node(job)

    @strawberry.mutation(directives=_MANAGE)
    async def cancel_job(self, info: RelayInfo, id: strawberry.ID) -> BulkJob:
        """End a job; the deliveries it made stay."""
        key = get_id(id, of="job")
        async with audited(info, Subject.JOB, key) as change:
            job = await jobs.cancel(change.conn, info.context.tenant_id, key)
            change.after = {"status": job.status}
        return job_node(job)
