"""The audit log's records: only what changed, nothing secret, never altered, gone when their time is over."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from relay.db import Conn, transaction
from relay.ids import floor_at
from relay.tenancy import audit
from relay.tenancy.audit import CLI, Change, Entry, Subject, Wanted, without_secrets
from relay.tenancy.scopes import Scope
from tests.rows import World, make_world


async def entries(conn: Conn, world: World, **wanted: Any) -> list[Entry]:
    return (await audit.list_(conn, world.tenant_id, Wanted(**wanted), first=100)).items


async def test_an_entry_has_the_fields_that_changed_and_nothing_secret(conn: Conn) -> None:
    world = await make_world(conn)
    before = {
        "url": "https://a.test/x?token=old", "same": 1, "secret": "whsec_" + "a" * 32, "maxRetries": 3,
        "customHeaders": {"Authorization": "Bearer one", "X-Team": "a"},
    }  # fmt: skip
    after = {
        "url": "https://a.test/x?token=new", "same": 1, "secret": "whsec_" + "b" * 32, "maxRetries": 4,
        "customHeaders": {"Authorization": "Bearer two", "X-Team": "b"},
    }  # fmt: skip
    await audit.write(conn, world.tenant_id, Change("updateX", Subject.ENDPOINT, None, before, after), actor=CLI)
    (entry,) = await entries(conn, world)
    assert (entry.who, entry.action, entry.subject_type, entry.ip) == ("cli", "updateX", "endpoint", None)
    headers = {"Authorization": "***"}
    hidden = {"url": "https://a.test/x?***", "secret": "***"}
    assert entry.before == {**hidden, "maxRetries": 3, "customHeaders": {**headers, "X-Team": "a"}}
    assert entry.after == {**hidden, "maxRetries": 4, "customHeaders": {**headers, "X-Team": "b"}}


def test_what_is_secret_is_masked_by_its_name_and_by_its_look() -> None:
    assert without_secrets({"auth": {"password": "p"}, "list": ["https://u:p@h/", "rly_" + "x" * 20]}) == {
        "auth": "***",
        "list": ["https://h/", "rly_***"],
    }
    assert without_secrets([frozenset({Scope.READ, Scope.ADMIN}), None, 1.5, True]) == [
        ["ADMIN", "READ"],
        None,
        1.5,
        True,
    ]


async def test_no_entry_is_altered_or_removed_before_its_time(conn: Conn) -> None:
    world = await make_world(conn)
    await audit.write(conn, world.tenant_id, Change("a", Subject.JOB), actor=CLI)
    for statement in (
        "UPDATE audit_log SET actor = 'nobody'",
        "DELETE FROM audit_log",
        "TRUNCATE audit_log",
        "BEGIN; SET LOCAL relay.audit_retention = 'on'; DELETE FROM audit_log",
    ):
        with pytest.raises(psycopg.errors.RestrictViolation, match="append-only"):
            await conn.execute(statement)
        await conn.rollback()
    assert len(await entries(conn, world)) == 1


async def test_the_retention_takes_what_is_older_and_30_days_are_always_kept(conn: Conn) -> None:
    world = await make_world(conn)
    now = datetime.now(UTC)
    for days in (20, 40, 400):
        at = now - timedelta(days=days)
        await conn.execute(
            """INSERT INTO audit_log (id, tenant_id, at, actor, action, subject_type, after)
               VALUES (%s, %s, %s, 'cli', 'x', 'job', %s)""",
            (floor_at(at.timestamp()), world.tenant_id, at, Jsonb({"days": days})),
        )
    counts: list[int] = []
    for keep in (365, 1, 1):
        async with transaction(conn):
            counts.append(await audit.forget(conn, keep_days=keep))
    assert counts == [1, 1, 0]
    assert [entry.after for entry in await entries(conn, world)] == [{"days": 20}]
