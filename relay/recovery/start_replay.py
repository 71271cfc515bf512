"""startReplay: a job for more than one request can do, or only its count."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

from relay.catalog import endpoints
from relay.catalog.endpoints import Endpoint, EndpointStatus
from relay.db import Conn, Database
from relay.errors import Conflict
from relay.recovery import jobs
from relay.recovery.items import Scope
from relay.recovery.job_runner import count
from relay.recovery.jobs import Job, JobKind
from relay.recovery.replay_spec import ReplaySpec
from relay.recovery.targets import Refusal


async def unheard(_conn: Conn, _job: Job) -> None:
    """Do nothing: nobody wants to hear of a job that starts."""


async def start_replay(
    db: Database,
    tenant_id: UUID,
    spec: ReplaySpec,
    *,
    id: UUID,
    started: Callable[[Conn, Job], Awaitable[None]] = unheard,
) -> Job:
    """Store the job, or for a dry run count and store what came of that; whoever calls this hints a worker.

    `started` is called in the transaction that stores a job, and not for a dry run, which changes nothing.
    Raises NotFound for an endpoint that the client does not have, Conflict for one that is disabled.
    """
    kind = JobKind.REPLAY if spec.to_endpoint_id is None else JobKind.BACKFILL
    endpoint = await _endpoint(db, tenant_id, spec)
    if not spec.dry_run:
        async with db.transaction() as conn:
            job = await jobs.create(
                conn, tenant_id, id=id, kind=kind, input=spec.as_json(), rate_per_sec=spec.rate_per_sec
            )
            await started(conn, job)
        return job
    scope = Scope(tenant_id, spec, patterns=endpoint.event_types if endpoint else ())
    total, skipped = await count(db, scope)
    async with db.connection() as conn:
        return await jobs.create_counted(
            conn, tenant_id, id=id, kind=kind, input=spec.as_json(), total=total, skipped=skipped
        )


async def _endpoint(db: Database, tenant_id: UUID, spec: ReplaySpec) -> Endpoint | None:
    if spec.own_endpoint_id is None:
        return None
    async with db.connection() as conn:
        found = await endpoints.get(conn, tenant_id, spec.own_endpoint_id)
    if found.status is EndpointStatus.DISABLED:
        raise Conflict(Refusal.DISABLED.value)
    return found
