"""The schemas of event types: each change of one is a revision, and all are kept. The schema of a revision never changes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import msgspec

from relay.db import Conn
from relay.errors import Invalid

#: What an answer may hold of them, in bytes.
_MOST_SHOWN = 16 << 20


@dataclass(frozen=True, slots=True)
class Revision:
    """A schema a type has or had, as its JSON text; None: it had none from then on."""

    type_id: UUID
    revision: int
    schema: bytes | None
    schema_version: str | None
    created_at: datetime


def same(one: bytes | None, other: bytes | None) -> bool:
    """Tell whether two schemas say the same: spacing and the order of members do not count."""
    return one == other or (one is not None and other is not None and _canonical(one) == _canonical(other))


def _canonical(text: bytes) -> str:
    return json.dumps(msgspec.json.decode(text), sort_keys=True)


async def add(conn: Conn, type_id: UUID, schema: bytes | None) -> None:
    """Give a type another schema: a new revision, with the label that the type has. Needs a transaction."""
    await conn.execute(
        """WITH changed AS (
               UPDATE event_types SET schema = %s::json, revision = revision + 1 WHERE id = %s
               RETURNING id, revision, schema, schema_version
           )
           INSERT INTO event_type_revisions (type_id, revision, schema, schema_version)
           SELECT id, revision, schema, schema_version FROM changed""",
        (schema.decode() if schema is not None else None, type_id),
    )


async def label(conn: Conn, type_id: UUID) -> None:
    """Give the newest revision the label that its type has now."""
    await conn.execute(
        """UPDATE event_type_revisions r SET schema_version = t.schema_version FROM event_types t
           WHERE t.id = %s AND r.type_id = t.id AND r.revision = t.revision""",
        (type_id,),
    )


async def schemas(conn: Conn, tenant_id: UUID, type_ids: Iterable[UUID]) -> dict[UUID, bytes]:
    """Return the schemas of a client's types now, of those that have one."""
    rows = await conn.execute(
        """SELECT id, schema::text FROM event_types
           WHERE tenant_id = %s AND id = ANY(%s::uuid[]) AND schema IS NOT NULL""",
        (tenant_id, list(type_ids)),
    )
    return {id: text.encode() async for id, text in rows}


async def of_types(conn: Conn, tenant_id: UUID, type_ids: Iterable[UUID]) -> dict[UUID, list[Revision]]:
    """Return all revisions of a client's types, the newest first; raise Invalid when they are too much for an answer."""
    ids = list(type_ids)
    counted = await conn.execute(
        "SELECT coalesce(sum(octet_length(schema::text)), 0) FROM event_type_revisions WHERE type_id = ANY(%s::uuid[])",
        (ids,),
    )
    if (await counted.fetchall())[0][0] > _MOST_SHOWN:
        raise Invalid("The revisions are too large for one answer: ask for fewer types at once.", field="revisions")
    rows = await conn.execute(
        """SELECT r.type_id, r.revision, r.schema::text, r.schema_version, r.created_at
           FROM event_type_revisions r JOIN event_types t ON t.id = r.type_id
           WHERE t.tenant_id = %s AND t.id = ANY(%s::uuid[]) ORDER BY r.type_id, r.revision DESC""",
        (tenant_id, ids),
    )
    found: dict[UUID, list[Revision]] = {id: [] for id in ids}
    async for type_id, revision, text, version, at in rows:
        schema = text.encode() if text is not None else None
        found[type_id].append(Revision(type_id, revision, schema, version, at))
    return found


async def schema_of(conn: Conn, type_id: UUID, revision: int) -> bytes | None:
    """Return the schema of this revision; None: none, or the type is gone."""
    rows = await conn.execute(
        "SELECT schema::text FROM event_type_revisions WHERE type_id = %s AND revision = %s", (type_id, revision)
    )
    row = await rows.fetchone()
    return row[0].encode() if row is not None and row[0] is not None else None
