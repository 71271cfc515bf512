"""Erasure as clients ask for it."""

from __future__ import annotations

import strawberry

from api.graphql.audited import Audited, note
from api.graphql.context import RelayInfo
from api.graphql.jobs import BulkJob, job_node
from api.graphql.needs import Needs
from api.graphql.privacy_inputs import EraseInput, erase_spec
from relay.db import Conn
from relay.recovery import jobs
from relay.recovery.erase_spec import kept
from relay.recovery.jobs import Job
from relay.recovery.start_erasure import start_erasure
from relay.tenancy.audit import Subject
from relay.tenancy.scopes import Scope


@strawberry.type
class ErasureMutation:
    """What can be taken out for good."""

    @strawberry.mutation(
        directives=[Needs(scope=Scope.ADMIN)],
        description="Removes payloads, headers and stored answers for good; ids, times and outcomes stay."
        " The job's result is the receipt.",
    )
    async def erase_events(self, info: RelayInfo, input: EraseInput) -> BulkJob:
        """Empty events."""
        web, context, spec = info.context.web, info.context, erase_spec(input)

        async def started(conn: Conn, job: Job) -> None:
            # Of the subject only its hash: an entry cannot be erased.
            await note(info, Subject.JOB, Audited(conn, job.id, after=kept(spec.as_json())))

        job = await start_erasure(
            web.db, context.tenant_id, spec, id=web.ids(), asked_by=context.caller.name, started=started
        )
        if not job.dry_run:
            await web.hint(web.queue.enqueue([jobs.hint(job.id)]))
        return job_node(job)
