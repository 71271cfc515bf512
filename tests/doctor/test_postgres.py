"""Postgres as the doctor finds it: a real server, misconfigured for real."""

from __future__ import annotations

import time

import pytest

from relay.db import Conn
from relay.doctor.postgres import supported
from relay.doctor.verdict import Finding
from relay.settings import Settings
from tests.doctor.asking import ask, fails, passes, warns


async def database_setting(conn: Conn, name: str, value: str) -> None:
    """Set something for every connection to come to this database."""
    row = await (await conn.execute("SELECT current_database()")).fetchone()
    assert row is not None
    await conn.execute(f"ALTER DATABASE {row[0]} SET {name} = '{value}'".encode())


async def test_a_server_that_is_as_it_should_be_passes(settings: Settings) -> None:
    found = await ask(settings, "postgres")
    for check in ("postgres", "postgres-version", "schema"):
        passes(found, check)
    passes(found, "synchronous-commit", saying="on")
    passes(found, "clock-skew", saying="0.0 s")
    passes(found, "pgbouncer", saying="Postgres itself")
    passes(found, "max-connections", saying="4 processes with 4 connections each")


async def test_a_server_that_does_not_answer_fails_every_check_and_shows_no_password(settings: Settings) -> None:
    away = settings.model_copy(update={"database_url": "postgresql://relay:hunter2@127.0.0.1:1/relay"})
    found = await ask(away, "settings", "postgres", "fleet")
    fails(found, "postgres", saying="not seen: Postgres does not answer")
    fails(found, "clock-leader", saying="not seen")
    passes(found, "retention")
    assert "hunter2" not in str(found)


async def test_an_address_that_is_none_shows_no_password(settings: Settings) -> None:
    found = await ask(
        settings.model_copy(update={"database_url": "postgresql://relay:hunter2@db:port/relay"}), "postgres"
    )
    fails(found, "postgres")
    assert "hunter2" not in str(found)


def test_a_server_older_than_any_that_relay_is_tested_with_fails() -> None:
    fails([Finding("postgres", "postgres-version", supported(140009))], "postgres-version", saying="14")


async def test_a_schema_that_waits_for_a_migration_fails(settings: Settings, conn: Conn) -> None:
    await conn.execute("DELETE FROM schema_migrations WHERE version > 1")
    fails(await ask(settings, "postgres"), "schema", saying="at migration 1")


async def test_an_empty_database_fails_and_stops_no_check(settings: Settings, empty_database_url: str) -> None:
    empty = settings.model_copy(update={"database_url": empty_database_url})
    found = await ask(empty, "postgres", "partitions", "fleet")
    fails(found, "schema", saying="at migration 0")
    fails(found, "partitions-ahead", saying="no partitioned tables")
    fails(found, "clock-leader", saying="could not be asked")
    fails(found, "web-processes", saying="could not be asked")
    passes(found, "synchronous-commit")


async def test_commits_that_do_not_wait_fail(settings: Settings, conn: Conn) -> None:
    await database_setting(conn, "synchronous_commit", "off")
    fails(await ask(settings, "postgres"), "synchronous-commit", saying="off")


async def test_a_clock_that_is_off_is_told(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    really = time.time
    monkeypatch.setattr(time, "time", lambda: really() + 60)
    fails(await ask(settings, "postgres"), "clock-skew", saying="ahead of")
    monkeypatch.setattr(time, "time", lambda: really() - 2)
    warns(await ask(settings, "postgres"), "clock-skew", saying="2.0 s behind")


async def test_a_connection_in_the_clear_fails(settings: Settings) -> None:
    fails(await ask(settings, "postgres"), "database-tls", saying="in the clear; sslmode is prefer")


async def test_pools_that_postgres_cannot_take_fail(settings: Settings) -> None:
    found = await ask(settings.model_copy(update={"database_max_conns": 200}), "postgres")
    fails(found, "max-connections", saying="4 processes with 200 connections each")


async def test_nothing_prepared_and_no_pooler_is_told(settings: Settings) -> None:
    found = await ask(settings.model_copy(update={"database_pgbouncer": True}), "postgres")
    warns(found, "pgbouncer", saying="goes to Postgres itself")
