"""What an erasure goes through: events in the order of ids, those of archived days too.

A day that is on its way into the archive is in neither place; every table of a day that is not attached counts here, and
`places` is asked again before the commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import sql

from relay.archive import LETTERS, SCHEMA
from relay.db import Conn
from relay.delivery.deliveries import id_bounds
from relay.partitions import TABLES
from relay.recovery.erase_spec import EraseSpec

_FIRST = UUID(int=0)
#: Each table itself, with all its attached days, and by name the days that are not.
Places = dict[str, list[sql.Identifier]]


@dataclass(frozen=True, slots=True)
class EraseScope:
    """What an erasure is about: only what was accepted `before` it was asked for (None: by now)."""

    tenant_id: UUID
    spec: EraseSpec
    before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """An event that was asked for; `erased`: before."""

    id: UUID
    idempotency_key: str | None
    erased: bool


async def places(conn: Conn) -> Places:
    """Return where rows of each table are now."""
    rows = await conn.execute(
        """SELECT n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
           LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
           WHERE c.relkind = 'r' AND c.relname ~ %s
             AND (n.oid = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass('events')) OR n.nspname = %s)
             AND i.inhdetachpending IS DISTINCT FROM false ORDER BY 1, 2""",
        (f"^({'|'.join((*TABLES, LETTERS))})_[0-9]{{8}}$", SCHEMA),
    )
    found: Places = {table: [sql.Identifier(table)] for table in (*TABLES, LETTERS)}
    for schema, name in await rows.fetchall():
        found[name.rpartition("_")[0]].append(sql.Identifier(schema, name))
    return found


async def next_items(
    conn: Conn, scope: EraseScope, where: Places, *, after: UUID | None, look: int
) -> tuple[list[Item], UUID | None]:
    """Look at the next `look` events; return those that were asked for, and the last looked at (None: there is none)."""
    spec = scope.spec
    one = sql.SQL(
        """(SELECT e.id, e.type, e.subject, e.created_at, e.idempotency_key, e.payload IS NULL AS erased FROM {} e
            WHERE e.tenant_id = %(tenant_id)s AND e.id > %(after)s AND e.id < %(to_id)s{} ORDER BY e.id LIMIT %(look)s)"""
    )
    ids = sql.SQL(" AND e.id = ANY(%(ids)s::uuid[])") if spec.ids is not None else sql.SQL("")
    looked_at = sql.SQL(" UNION ALL ").join(one.format(place, ids) for place in where["events"])
    rows = await conn.execute(
        sql.SQL("WITH s AS MATERIALIZED (SELECT * FROM (") + looked_at
        + sql.SQL(") x ORDER BY id LIMIT %(look)s) SELECT id, idempotency_key, erased, ")
        + _asked_for(spec) + sql.SQL(" FROM s e ORDER BY id"),
        _parameters(scope, after, look=look),
    )  # fmt: skip
    found = await rows.fetchall()
    return [Item(*row[:3]) for row in found if row[3]], found[-1][0] if found else None


def _asked_for(spec: EraseSpec) -> sql.Composed:
    parts = [sql.SQL("e.created_at < coalesce(%(before)s, now())")]
    if spec.subject is not None:
        parts.append(sql.SQL("coalesce(e.subject = %(subject)s, false)"))
    if spec.since is not None:
        parts.append(sql.SQL("e.created_at >= %(since)s"))
    if spec.until is not None:
        parts.append(sql.SQL("e.created_at < %(until)s"))
    if spec.event_types:
        parts.append(
            sql.SQL(
                """coalesce(e.type = ANY(%(exact)s::text[]) OR e.type ^@ ANY(%(below)s::text[])
                            OR %(any)s AND NOT e.type ^@ 'relay.', false)"""
            )
        )
    return sql.SQL(" AND ").join(parts)


def _parameters(scope: EraseScope, after: UUID | None, *, look: int) -> dict[str, Any]:
    spec = scope.spec
    bounds = {"from_id": _FIRST, "to_id": UUID(int=(1 << 128) - 1), **id_bounds(spec.since, spec.until)}
    types: Sequence[str] = spec.event_types or ()
    return {
        **bounds,
        "after": after or bounds["from_id"],
        "tenant_id": scope.tenant_id,
        "ids": spec.ids,
        "subject": spec.subject,
        "since": spec.since,
        "until": spec.until,
        "before": scope.before,
        "exact": [one for one in types if not one.endswith("*")],
        "below": [one[:-1] for one in types if one.endswith(".*")],
        "any": "*" in types,
        "look": look,
    }
