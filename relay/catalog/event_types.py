"""Event types that a client has described: for people, for its policy on unknown types, and for what is not to be shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from psycopg import sql
from pydantic import AfterValidator, Field

from relay.catalog import type_revisions
from relay.catalog.partition_keys import MAX_PATH, check_path
from relay.catalog.schemas import compile_schema
from relay.catalog.subscriptions import check_type
from relay.db import Conn
from relay.errors import Conflict, Invalid, NotFound
from relay.paging import COUNT_LIMIT, NEWEST, Page, exact_count, page
from relay.specs import Spec, Text
from relay.tenancy import audit

MAX_PATHS = 50
MAX_DESCRIPTION = 1_000


@dataclass(frozen=True, slots=True)
class EventType:
    """A type; `redact_paths` are the JSONPaths whose values the API does not show.

    Its schema is not here, for it may be long (`relay.catalog.type_revisions`); `revision` counts its changes.
    """

    id: UUID
    tenant_id: UUID
    name: str
    description: str | None
    redact_paths: list[str]
    schema_version: str | None
    revision: int
    created_at: datetime
    updated_at: datetime


def _name(name: str) -> str:
    check_type(name, field="name")
    return name


def _paths(paths: list[str]) -> list[str]:
    if len(paths) > MAX_PATHS:
        raise ValueError(f"must hold at most {MAX_PATHS} paths")
    for path in paths:
        if len(path) > MAX_PATH:
            raise ValueError(f"must hold paths of at most {MAX_PATH} characters; {path[:40]}… is longer")
        try:
            check_path(path, field="redactPaths")
        except Invalid as cause:
            raise ValueError(f"holds {path!r}, which is none: {cause.message}") from cause
    return list(dict.fromkeys(paths))


def _schema(text: bytes) -> bytes | None:
    if text.strip() == b"null":
        return None
    try:
        compile_schema(text)
    except Invalid as cause:
        raise ValueError(cause.message.removeprefix("schema ").removesuffix(".")) from cause
    return text


Description = Annotated[Text, Field(max_length=MAX_DESCRIPTION)]
Paths = Annotated[list[Text], AfterValidator(_paths)]
#: The JSON text as it was written. A pydantic model has a `schema` of its own, hence the other name.
Schema = Annotated[Annotated[bytes, AfterValidator(_schema)] | None, Field(alias="schema")]
Label = Annotated[Text, Field(min_length=1, max_length=100)]


class EventTypeSpec(Spec):
    """createEventType: a new type; null means the default."""

    name: Annotated[Text, AfterValidator(_name)]
    description: Description | None = None
    json_schema: Schema = None
    schema_version: Label | None = None
    redact_paths: Paths | None = None


class EventTypeChange(Spec):
    """updateEventType: what is absent stays, null clears."""

    description: Description | None = None
    json_schema: Schema = None
    schema_version: Label | None = None
    redact_paths: Paths | None = None

    def columns(self) -> dict[str, Any]:
        """What is to change, by column."""
        given = {name: getattr(self, name) for name in self.model_fields_set if name != "json_schema"}
        if "redact_paths" in given:
            given["redact_paths"] = given["redact_paths"] or []
        return given


_COLUMNS = sql.SQL(", ").join(sql.Identifier(field.name) for field in fields(EventType))
_SELECT = sql.SQL("SELECT ") + _COLUMNS + sql.SQL(" FROM event_types WHERE tenant_id = %(tenant_id)s ")


async def create(conn: Conn, tenant_id: UUID, spec: EventTypeSpec, *, id: UUID) -> EventType:
    """Make a type and return it; Conflict when the client has one of this name. Needs a transaction."""
    rows = await conn.execute(
        """INSERT INTO event_types (id, tenant_id, name, description, redact_paths, schema_version)
           VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (tenant_id, name) DO NOTHING RETURNING id""",
        (id, tenant_id, spec.name, spec.description, spec.redact_paths or [], spec.schema_version),
    )
    if await rows.fetchone() is None:
        raise Conflict(f"There is an event type {spec.name} already; updateEventType changes it.", field="name")
    if spec.json_schema is not None:
        await type_revisions.add(conn, id, spec.json_schema)
    await bump(conn, tenant_id)
    return await get_locked(conn, tenant_id, id)


async def update(conn: Conn, tenant_id: UUID, id: UUID, change: EventTypeChange) -> EventType:
    """Change a type and return it as it is then; raise NotFound. A schema that says the same is no change.

    Needs a transaction.
    """
    columns: Mapping[str, Any] = change.columns()
    changes: list[sql.Composable] = [sql.SQL("updated_at = now()")]
    changes += [sql.Identifier(name) + sql.SQL(" = ") + sql.Placeholder(name) for name in columns]
    rows = await conn.execute(
        sql.SQL("UPDATE event_types SET ") + sql.SQL(", ").join(changes)
        + sql.SQL(" WHERE tenant_id = %(tenant_id)s AND id = %(id)s RETURNING schema::text"),
        {**columns, "tenant_id": tenant_id, "id": id},
    )  # fmt: skip
    row = await rows.fetchone()
    if row is None:
        raise _not_found()
    before = row[0].encode() if row[0] is not None else None
    if "json_schema" in change.model_fields_set and not type_revisions.same(before, change.json_schema):
        await type_revisions.add(conn, id, change.json_schema)
    elif "schema_version" in columns:
        await type_revisions.label(conn, id)
    await bump(conn, tenant_id)
    return await get_locked(conn, tenant_id, id)


async def delete(conn: Conn, tenant_id: UUID, id: UUID) -> None:
    """Take a type away, its redaction with it; raise NotFound. Needs a transaction."""
    done = await conn.execute("DELETE FROM event_types WHERE tenant_id = %s AND id = %s", (tenant_id, id))
    if done.rowcount == 0:
        raise _not_found()
    await bump(conn, tenant_id)


async def bump(conn: Conn, tenant_id: UUID) -> None:
    """Tell every cache of what changed; last, for it locks the tenant until the commit."""
    await conn.execute("UPDATE tenants SET types_version = types_version + 1 WHERE id = %s", (tenant_id,))


async def get_locked(conn: Conn, tenant_id: UUID, id: UUID) -> EventType:
    """Return the client's type, locked until the commit: what it is before a change. Raises NotFound."""
    rows = await conn.execute(_SELECT + sql.SQL("AND id = %(id)s FOR UPDATE"), {"tenant_id": tenant_id, "id": id})
    row = await rows.fetchone()
    if row is None:
        raise _not_found()
    return EventType(*row)


def audited_fields(type_: EventType) -> dict[str, Any]:
    """What the audit log shows of a type, by API names."""
    return audit.fields_of(type_, ("name", "description", "schema_version", "revision", "redact_paths"))


async def find(conn: Conn, tenant_id: UUID, id: UUID) -> EventType | None:
    """Return the client's type, or None."""
    rows = await conn.execute(_SELECT + sql.SQL("AND id = %(id)s"), {"tenant_id": tenant_id, "id": id})
    row = await rows.fetchone()
    return EventType(*row) if row else None


async def find_by_name(conn: Conn, tenant_id: UUID, name: str) -> EventType | None:
    """Return the client's type of exactly this name, or None."""
    rows = await conn.execute(_SELECT + sql.SQL("AND name = %(name)s"), {"tenant_id": tenant_id, "name": name})
    row = await rows.fetchone()
    return EventType(*row) if row else None


async def list_(conn: Conn, tenant_id: UUID, *, first: int, after: UUID | None = None) -> Page[EventType]:
    """Return the client's types, newest first."""
    rows = await conn.execute(
        _SELECT + sql.SQL("AND id < %(after)s ORDER BY id DESC LIMIT %(limit)s"),
        {"tenant_id": tenant_id, "after": after or NEWEST, "limit": first + 1},
    )
    return page([EventType(*row) for row in await rows.fetchall()], first=first, after=after)


async def count(conn: Conn, tenant_id: UUID) -> int | None:
    """Count the client's types; None above 10 000."""
    rows = await conn.execute(
        "SELECT count(*) FROM (SELECT FROM event_types WHERE tenant_id = %s LIMIT %s) x", (tenant_id, COUNT_LIMIT + 1)
    )
    return exact_count((await rows.fetchall())[0][0])


def _not_found() -> NotFound:
    return NotFound("There is no event type with this id.")
