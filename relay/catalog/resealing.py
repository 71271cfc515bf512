"""Sealed secrets moved from one SIGNING_KEY to the next, in batches, while everything runs; safe to kill and to repeat.

Every table that holds something sealed is in SEALED: its columns `sealed` and `key_id`, and an owner's id that the
ciphertext is bound to.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from relay.catalog.secrets import Vault
from relay.db import Conn, Database
from relay.errors import Unavailable

_BATCH = 500


@dataclass(frozen=True, slots=True)
class SealedTable:
    """A table with sealed rows: its primary key, and which of its columns is the owner."""

    name: str
    key: tuple[str, ...]
    owner: str


SEALED = (
    SealedTable("secrets", key=("owner_id", "slot"), owner="owner_id"),
    SealedTable("credentials", key=("endpoint_id", "kind"), owner="endpoint_id"),
)


@dataclass(frozen=True, slots=True)
class Resealed:
    """What became of one batch: moved to SIGNING_KEY, or left because neither key opens it."""

    table: str
    moved: int
    unreadable: int


@dataclass(frozen=True, slots=True)
class Standing:
    """How many rows of a table are under which key: SIGNING_KEY, SIGNING_KEY_PREVIOUS, or one that is not given."""

    table: str
    current: int
    previous: int
    unknown: int

    @property
    def left(self) -> int:
        """Rows that need another key than SIGNING_KEY."""
        return self.previous + self.unknown


async def standings(conn: Conn, *, vault: Vault) -> list[Standing]:
    """Count the rows of every table by key."""
    found: list[Standing] = []
    for table in SEALED:
        rows = await conn.execute(
            sql.SQL(
                """SELECT count(*) FILTER (WHERE key_id = %(current)s),
                          count(*) FILTER (WHERE key_id <> %(current)s AND key_id = ANY(%(known)s::bytea[])),
                          count(*) FILTER (WHERE key_id <> ALL(%(known)s::bytea[])) FROM {}"""
            ).format(sql.Identifier(table.name)),
            {"current": vault.key_id, "known": vault.key_ids},
        )
        found.append(Standing(table.name, *(await rows.fetchall())[0]))
    return found


async def reseal(db: Database, *, vault: Vault, batch: int = _BATCH) -> AsyncGenerator[Resealed]:
    """Seal everything with SIGNING_KEY again, each batch in a transaction of its own; what is done stays done."""
    for table in SEALED:
        after: tuple[Any, ...] | None = None
        while True:
            async with db.transaction() as conn:
                rows = await _lock(conn, table, after=after, vault=vault, batch=batch)
                moved = await _move(conn, table, rows, vault=vault)
            if not rows:
                break
            yield Resealed(table.name, moved, len(rows) - moved)
            after = rows[-1][: len(table.key)]


async def _lock(
    conn: Conn, table: SealedTable, *, after: tuple[Any, ...] | None, vault: Vault, batch: int
) -> list[tuple[Any, ...]]:
    """Lock the next rows under another key than SIGNING_KEY, in the order in which a rotation locks them, too."""
    key = sql.SQL(", ").join(map(sql.Identifier, table.key))
    further = sql.SQL("") if after is None else sql.SQL("AND ({}) > ({})").format(
        key, sql.SQL(", ").join(sql.Placeholder() for _ in table.key)
    )  # fmt: skip
    rows = await conn.execute(
        sql.SQL(
            "SELECT {}, {}, sealed, key_id FROM {} WHERE key_id <> %s {} ORDER BY {} LIMIT %s FOR NO KEY UPDATE"
        ).format(key, sql.Identifier(table.owner), sql.Identifier(table.name), further, key),
        (vault.key_id, *(after or ()), batch),
    )
    return await rows.fetchall()


async def _move(conn: Conn, table: SealedTable, rows: list[tuple[Any, ...]], *, vault: Vault) -> int:
    changes: list[tuple[Any, ...]] = []
    for *key, owner, sealed, key_id in rows:
        try:
            secret = vault.open(bytes(sealed), owner=owner, key_id=bytes(key_id))
        except Unavailable:
            continue
        box = vault.seal(secret, owner=owner)
        changes.append((box.sealed, box.key_id, *key))
    if changes:
        is_it = sql.SQL(" AND ").join(sql.SQL("{} = %s").format(sql.Identifier(column)) for column in table.key)
        statement = sql.SQL("UPDATE {} SET sealed = %s, key_id = %s WHERE {}").format(sql.Identifier(table.name), is_it)
        async with conn.cursor() as cursor:
            await cursor.executemany(statement, changes)
    return len(changes)
