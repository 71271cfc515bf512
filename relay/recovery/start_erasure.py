"""eraseEvents: a durable job, or only its count."""

from __future__ import annotations

from uuid import UUID

from relay.db import Database
from relay.recovery import erasing, jobs
from relay.recovery.erase_items import EraseScope
from relay.recovery.erase_spec import EraseSpec, kept
from relay.recovery.jobs import Job, JobKind


async def start_erasure(db: Database, tenant_id: UUID, spec: EraseSpec, *, id: UUID, asked_by: str) -> Job:
    """Store the job, or for a dry run count and store what came of that; whoever calls this hints a worker."""
    if not spec.dry_run:
        async with db.connection() as conn:
            return await jobs.create(
                conn, tenant_id, id=id, kind=JobKind.ERASURE, input=spec.as_json(), result={"askedBy": asked_by}
            )
    total, skipped = await erasing.count(db, EraseScope(tenant_id, spec))
    async with db.connection() as conn:
        return await jobs.create_counted(
            conn, tenant_id, id=id, kind=JobKind.ERASURE, input=kept(spec.as_json()), total=total, skipped=skipped
        )
