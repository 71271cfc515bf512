"""Event types out of a document, as clients ask for them."""

from __future__ import annotations

from typing import cast

import strawberry

from api.errors import shown
from api.graphql.audited import Audited, note
from api.graphql.context import RelayInfo
from api.graphql.enums import ErrorCode
from api.graphql.needs import Needs
from api.graphql.results import ItemError
from api.graphql.scalars import Json
from relay.catalog import event_types, openapi, type_imports
from relay.catalog.type_imports import Done, Plan
from relay.db import Conn
from relay.errors import RelayError
from relay.tenancy.audit import Subject
from relay.tenancy.scopes import Scope


@strawberry.type
class EventTypeImport:
    """What became of the webhooks of a document, by name."""

    created: list[str]
    updated: list[str]
    unchanged: list[str]
    refused: list[ItemError]


@strawberry.type
class TypeImportMutation:
    """How types come out of documents."""

    @strawberry.mutation(
        directives=[Needs(scope=Scope.MANAGE)],
        description="From the `webhooks` section of an OpenAPI 3.1 document.",
    )
    async def import_event_types(
        self, info: RelayInfo, document: Json, *, dry_run: bool | None = False
    ) -> EventTypeImport:
        """Make and change types as a document has them."""
        web, tenant_id = info.context.web, info.context.tenant_id
        found = await openapi.described(cast("bytes", document))
        async with web.db.transaction() as conn:
            planned = await type_imports.plan(conn, tenant_id, found.types)
            if not dry_run:
                done = await type_imports.carry_out(conn, tenant_id, planned, ids=web.ids)
                await _noted(info, conn, done)
        if not dry_run:
            await info.context.sending.types.refresh_soon()
        return _shown(info, planned, found.refused)


async def _noted(info: RelayInfo, conn: Conn, done: list[Done]) -> None:
    """An entry for each type: an import that changes nothing leaves none."""
    for one in done:
        before = event_types.audited_fields(one.before) if one.before is not None else None
        after = event_types.audited_fields(one.after)
        await note(info, Subject.EVENT_TYPE, Audited(conn, one.after.id, before, after))


def _shown(info: RelayInfo, planned: Plan, refused: list[RelayError]) -> EventTypeImport:
    errors = [shown(error, request_id=info.context.request_id) for error in refused]
    return EventTypeImport(
        created=[spec.name for spec in planned.created],
        updated=[name for name, _, _ in planned.updated],
        unchanged=planned.unchanged,
        refused=[ItemError(code=ErrorCode[one.code], message=one.message, field=one.field) for one in errors],
    )
