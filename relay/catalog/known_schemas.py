"""The compiled schemas that were used lately, in one process: read once, for a revision never changes."""

from __future__ import annotations

from collections import OrderedDict
from uuid import UUID

from relay.catalog import type_revisions
from relay.catalog.schemas import Schema, compile_schema
from relay.db import Database

_MOST_KEPT = 5_000
_MOST_BYTES = 128 << 20


class Schemas:
    """Schemas by type and revision; those unused for longest are forgotten."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._bytes = 0
        self._kept: OrderedDict[tuple[UUID, int], Schema] = OrderedDict()

    async def get(self, type_id: UUID, revision: int) -> Schema | None:
        """Return the schema of this revision; None: the type is gone, or has none."""
        key = type_id, revision
        if (kept := self._kept.get(key)) is not None:
            self._kept.move_to_end(key)
            return kept
        async with self._db.connection() as conn:
            text = await type_revisions.schema_of(conn, type_id, revision)
        if text is None:
            return None
        schema = compile_schema(text)
        self._keep(key, schema)
        return schema

    def _keep(self, key: tuple[UUID, int], schema: Schema) -> None:
        before = self._kept.pop(key, None)  # two events may have read it at the same time
        self._kept[key] = schema
        self._bytes += schema.size - (before.size if before is not None else 0)
        while self._bytes > _MOST_BYTES or len(self._kept) > _MOST_KEPT:
            self._bytes -= self._kept.popitem(last=False)[1].size
