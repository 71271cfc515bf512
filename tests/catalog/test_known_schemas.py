"""Compiled schemas that are kept: read once, and forgotten before they are too many."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from relay.catalog import event_types, known_schemas, type_revisions
from relay.catalog.event_types import EventTypeSpec
from relay.catalog.known_schemas import Schemas
from relay.catalog.schemas import compile_schema
from relay.db import Conn, Database, transaction
from relay.settings import Settings
from tests.rows import make_world

TEXTS = [json.dumps({"title": "x" * n, "type": "string"}).encode() for n in (10, 20, 30)]


@pytest.fixture
async def db(settings: Settings) -> AsyncIterator[Database]:
    database = Database(settings, connections=1)
    await database.open()
    yield database
    await database.close()


async def test_what_is_kept_is_read_once_and_bounded_in_bytes(
    conn: Conn, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, ids = await make_world(conn), [uuid4() for _ in TEXTS]
    for id, text in zip(ids, TEXTS, strict=True):
        spec = EventTypeSpec(name=f"a.n{len(text)}", json_schema=text)
        async with transaction(conn):
            await event_types.create(conn, world.tenant_id, spec, id=id)
    monkeypatch.setattr(known_schemas, "_MOST_BYTES", 2 * compile_schema(TEXTS[2]).size)
    schemas = Schemas(db)
    first = await schemas.get(ids[0], 1)
    assert first is not None
    assert [one.place for one in first.misfits(b"1")] == ["$"]
    assert await schemas.get(ids[0], 1) is first
    second = await schemas.get(ids[1], 1)
    assert await schemas.get(ids[0], 1) is first
    await schemas.get(ids[2], 1)
    assert await schemas.get(ids[0], 1) is first
    assert await schemas.get(ids[1], 1) is not second
    assert await schemas.get(ids[0], 2) is None
    async with transaction(conn):
        await type_revisions.add(conn, ids[0], None)
    assert await schemas.get(ids[0], 2) is None
    assert await schemas.get(uuid4(), 1) is None
