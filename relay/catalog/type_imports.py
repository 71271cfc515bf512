"""Making and changing event types as a document describes them: what it does not say stays as it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from relay.catalog import event_types, type_revisions
from relay.catalog.event_types import EventType, EventTypeChange, EventTypeSpec
from relay.db import Conn


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done with the types of a client."""

    created: list[EventTypeSpec]
    updated: list[tuple[str, UUID, EventTypeChange]]
    unchanged: list[str]


@dataclass(frozen=True, slots=True)
class Done:
    """A type that was made (`before` is None) or changed."""

    before: EventType | None
    after: EventType


async def plan(conn: Conn, tenant_id: UUID, specs: Sequence[EventTypeSpec]) -> Plan:
    """Return what is to be done; the types that are there are locked until the commit. Needs a transaction."""
    rows = await conn.execute(
        """SELECT name, id, description, schema::text FROM event_types
           WHERE tenant_id = %s AND name = ANY(%s) ORDER BY id FOR UPDATE""",
        (tenant_id, [spec.name for spec in specs]),
    )
    there = {row[0]: row[1:] for row in await rows.fetchall()}
    planned = Plan([], [], [])
    for spec in specs:
        if spec.name not in there:
            planned.created.append(spec)
            continue
        id, description, schema = there[spec.name]
        change = _change(spec, description, schema.encode() if schema is not None else None)
        if change is None:
            planned.unchanged.append(spec.name)
        else:
            planned.updated.append((spec.name, id, change))
    return planned


def _change(spec: EventTypeSpec, description: str | None, schema: bytes | None) -> EventTypeChange | None:
    """How a type becomes what is described; None: it is. The label comes with the schema that it is of."""
    given: dict[str, Any] = {}
    if spec.description is not None and spec.description != description:
        given["description"] = spec.description
    if spec.json_schema is not None and not type_revisions.same(schema, spec.json_schema):
        given |= {"schema": spec.json_schema, "schema_version": spec.schema_version}
    return EventTypeChange(**given) if given else None


async def carry_out(conn: Conn, tenant_id: UUID, planned: Plan, *, ids: Callable[[], UUID]) -> list[Done]:
    """Make and change the types, and return them; Conflict when one was made meanwhile. Needs a transaction."""
    done = [Done(None, await event_types.create(conn, tenant_id, spec, id=ids())) for spec in planned.created]
    for _, id, change in planned.updated:
        before = await event_types.get_locked(conn, tenant_id, id)
        done.append(Done(before, await event_types.update(conn, tenant_id, id, change)))
    return done
