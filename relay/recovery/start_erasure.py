"""eraseEvents: a durable job, or only its count."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

from relay.db import Conn, Database
from relay.errors import NotFound
from relay.recovery import erasing, jobs
from relay.recovery.erase_items import EraseScope, next_items, places
from relay.recovery.erase_spec import EraseSpec, kept
from relay.recovery.jobs import Job, JobKind
from relay.recovery.start_replay import unheard


async def start_erasure(
    db: Database,
    tenant_id: UUID,
    spec: EraseSpec,
    *,
    id: UUID,
    asked_by: str,
    started: Callable[[Conn, Job], Awaitable[None]] = unheard,
) -> Job:
    """Store the job, or for a dry run count and store what came of that; whoever calls this hints a worker.

    `started` is called in the transaction that stores a job, and not for a dry run, which changes nothing.
    Raises NotFound for an id that is of no event of the client, for it may be misspelt.
    """
    if spec.ids is not None:
        await _check_known(db, tenant_id, spec.ids)
    if not spec.dry_run:
        async with db.transaction() as conn:
            job = await jobs.create(
                conn, tenant_id, id=id, kind=JobKind.ERASURE, input=spec.as_json(), result={"askedBy": asked_by}
            )
            await started(conn, job)
        return job
    total, skipped = await erasing.count(db, EraseScope(tenant_id, spec))
    async with db.connection() as conn:
        return await jobs.create_counted(
            conn, tenant_id, id=id, kind=JobKind.ERASURE, input=kept(spec.as_json()), total=total, skipped=skipped
        )


async def _check_known(db: Database, tenant_id: UUID, ids: Sequence[UUID]) -> None:
    scope = EraseScope(tenant_id, EraseSpec(ids=list(ids)))
    async with db.connection() as conn:
        found, _ = await next_items(conn, scope, await places(conn), after=None, look=len(ids))
    missing = set(ids) - {one.id for one in found}
    if missing:
        raise NotFound("There is no event with this id: " + ", ".join(map(str, sorted(missing)[:10])), field="ids")
