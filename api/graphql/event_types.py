"""Event types as GraphQL shows them, and how they are made."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import strawberry
from strawberry import UNSET

from api.graphql.audited import audited
from api.graphql.context import RelayInfo
from api.graphql.ids import find_id, get_id
from api.graphql.inputs import given
from api.graphql.needs import Needs
from api.graphql.paging import Connection, first_and_after, listed
from api.graphql.privacy_inputs import CreateEventTypeInput, UpdateEventTypeInput
from api.graphql.scalars import Json
from relay.catalog import event_types
from relay.catalog.event_types import EventTypeChange, EventTypeSpec
from relay.catalog.type_revisions import Revision
from relay.tenancy.audit import Subject
from relay.tenancy.scopes import Scope

_READ = [Needs(scope=Scope.READ)]
_MANAGE = [Needs(scope=Scope.MANAGE)]


@strawberry.type
class EventTypeRevision:
    """A schema that a type has or had."""

    revision: int
    schema: Json | None
    schema_version: str | None
    created_at: datetime


@strawberry.type
class EventType:
    """A type of events that a client has described."""

    id: strawberry.ID
    name: str
    description: str | None

    @strawberry.field
    async def schema(self, info: RelayInfo) -> Json | None:
        """What payloads must fit, as it was written."""
        found = await info.context.loaders.schemas.load(UUID(self.id))
        return None if found is None else Json(found)

    schema_version: str | None = strawberry.field(description="The owner's label for it.")
    revision: int = strawberry.field(description="Grows by one with each change of schema.")

    @strawberry.field(description="Every schema so far, the newest first.")
    async def revisions(self, info: RelayInfo) -> list[EventTypeRevision]:
        """Its schemas."""
        return [_revision_node(one) for one in await info.context.loaders.revisions.load(UUID(self.id)) or ()]

    redact_paths: list[str] = strawberry.field(
        description="JSONPaths blanked in what the API, logs and exports show; delivery is not changed."
    )
    created_at: datetime
    updated_at: datetime


def _revision_node(record: Revision) -> EventTypeRevision:
    return EventTypeRevision(
        revision=record.revision,
        schema=None if record.schema is None else Json(record.schema),
        schema_version=record.schema_version,
        created_at=record.created_at,
    )


def event_type_node(record: event_types.EventType) -> EventType:
    """Show an event type."""
    return EventType(
        id=strawberry.ID(str(record.id)),
        name=record.name,
        description=record.description,
        schema_version=record.schema_version,
        revision=record.revision,
        redact_paths=record.redact_paths,
        created_at=record.created_at,
        updated_at=record.updated_at,
    )


@strawberry.type
class EventTypeQuery:
    """Event types to look at."""

    @strawberry.field(directives=_READ)
    async def event_type(self, info: RelayInfo, id: strawberry.ID) -> EventType | None:
        """One event type."""
        key = find_id(id)
        async with info.context.db.connection() as conn:
            found = await event_types.find(conn, info.context.tenant_id, key) if key else None
        return event_type_node(found) if found else None

    @strawberry.field(directives=_READ)
    async def event_type_by_name(self, info: RelayInfo, name: str) -> EventType | None:
        """The event type of exactly this name."""
        if "\0" in name:
            return None
        async with info.context.db.connection() as conn:
            found = await event_types.find_by_name(conn, info.context.tenant_id, name)
        return event_type_node(found) if found else None

    @strawberry.field(directives=_READ)
    async def event_types(
        self, info: RelayInfo, first: int | None = 20, after: str | None = UNSET
    ) -> Connection[EventType]:
        """Event types, newest first."""
        db, tenant_id = info.context.db, info.context.tenant_id
        at = first_and_after(first, after)
        return await listed(
            db,
            at,
            page=lambda conn, first, after: event_types.list_(conn, tenant_id, first=first, after=after),
            count=lambda conn: event_types.count(conn, tenant_id),
            node=event_type_node,
        )


@strawberry.type
class EventTypeMutation:
    """What can be done with event types."""

    @strawberry.mutation(directives=_MANAGE)
    async def create_event_type(self, info: RelayInfo, input: CreateEventTypeInput) -> EventType:
        """Describe a type of events."""
        web, spec = info.context.web, EventTypeSpec(**given(input))
        id = web.ids()
        async with audited(info, Subject.EVENT_TYPE, id) as writing:
            made = await event_types.create(writing.conn, info.context.tenant_id, spec, id=id)
            writing.after = event_types.audited_fields(made)
        await info.context.sending.types.refresh_soon()
        return event_type_node(made)

    @strawberry.mutation(directives=_MANAGE)
    async def update_event_type(self, info: RelayInfo, id: strawberry.ID, input: UpdateEventTypeInput) -> EventType:
        """Change a type of events: what is absent stays, null clears."""
        change, key = EventTypeChange(**given(input)), get_id(id, of="event type")
        async with audited(info, Subject.EVENT_TYPE, key) as writing:
            before = await event_types.get_locked(writing.conn, info.context.tenant_id, key)
            changed = await event_types.update(writing.conn, info.context.tenant_id, key, change)
            writing.before, writing.after = event_types.audited_fields(before), event_types.audited_fields(changed)
        await info.context.sending.types.refresh_soon()
        return event_type_node(changed)

    @strawberry.mutation(
        directives=_MANAGE, description="What its redactPaths hid is shown again; events of it stay as they are."
    )
    async def delete_event_type(self, info: RelayInfo, id: strawberry.ID) -> bool:
        """Forget a type of events."""
        key = get_id(id, of="event type")
        async with audited(info, Subject.EVENT_TYPE, key) as writing:
            before = await event_types.get_locked(writing.conn, info.context.tenant_id, key)
            await event_types.delete(writing.conn, info.context.tenant_id, key)
            writing.before = event_types.audited_fields(before)
        await info.context.sending.types.refresh_soon()
        return True
