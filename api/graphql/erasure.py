"""Erasure as clients ask for it."""

from __future__ import annotations

import strawberry

from api.graphql.context import RelayInfo
from api.graphql.jobs import BulkJob, job_node
from api.graphql.needs import Needs
from api.graphql.privacy_inputs import EraseInput, erase_spec
from relay.recovery import jobs
from relay.recovery.start_erasure import start_erasure
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
        web, context = info.context.web, info.context
        job = await start_erasure(
            web.db, context.tenant_id, erase_spec(input), id=web.ids(), asked_by=context.caller.name
        )
        if not job.dry_run:
            await web.hint(web.queue.enqueue([jobs.hint(job.id)]))
        return job_node(job)
