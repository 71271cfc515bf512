"""Backups, the archived log and replicas: a primary with a real standby that falls behind."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from psycopg import Connection
from psycopg.rows import TupleRow

from relay.migrate import migrate
from relay.processes import spawn_options
from relay.settings import Settings
from relay.up.development import free_port
from relay.up.embedded import Server, postgres_refusal, prepare_postgres
from tests.conftest import with_database
from tests.doctor.asking import ask, fails, passes, warns
from tests.doctor.waiting import until
from tests.folders import server_folder
from tests.servers import OwnServer

OPTIONS = {"archive_mode": "on", "max_connections": "50", "shared_buffers": "32MB"}


def cluster_of(server: Server) -> Path:
    return Path(server.command.argv[server.command.argv.index("-D") + 1])


@pytest.fixture(scope="module")
def primary() -> Iterator[OwnServer]:
    """A Postgres with Relay's schema that may archive; whether it writes to disk is left to its files, and so to a test."""
    with server_folder() as folder:
        server = prepare_postgres(folder, options=OPTIONS)
        with (cluster_of(server) / "postgresql.conf").open("a") as lines:
            lines.write("fsync = off\n")
        running = OwnServer(server, lambda: postgres_refusal(with_database(server.url, "postgres")))
        with psycopg.connect(with_database(server.url, "postgres"), autocommit=True) as conn:
            conn.execute("CREATE DATABASE relay")
        migrate(server.url)
        yield running
        running.kill()


@pytest.fixture(scope="module")
def standby(primary: OwnServer) -> Iterator[OwnServer]:
    """A standby of it, made by pg_basebackup."""
    command, cluster = primary.server.command, cluster_of(primary.server)
    copy, port = cluster.with_name("standby"), free_port()
    copy.mkdir(mode=0o700)
    if command.run_as:
        os.chown(copy, *command.run_as)
    copying = (str(Path(command.argv[0]).with_name("pg_basebackup")), "-D", str(copy), "-R", "--no-sync", "-c", "fast",
               "-d", primary.server.url)  # fmt: skip
    options = spawn_options(replace(command, name="pg_basebackup", argv=copying))
    subprocess.run(copying, check=True, stdout=subprocess.DEVNULL, timeout=60, **options)
    argv = tuple({str(cluster): str(copy)}.get(part, part) for part in command.argv)
    argv = tuple(f"port={port}" if part.startswith("port=") else part for part in argv)
    host = primary.server.url.rpartition(":")[0]
    server = Server(replace(command, argv=argv), f"{host}:{port}/relay")
    running = OwnServer(server, lambda: postgres_refusal(server.url))
    yield running
    running.kill()


@pytest.fixture
def given(settings: Settings, primary: OwnServer) -> Settings:
    return settings.model_copy(update={"database_url": primary.server.url})


@pytest.fixture
def conn(primary: OwnServer) -> Iterator[Connection[TupleRow]]:
    with psycopg.connect(primary.server.url, autocommit=True) as conn:
        yield conn


def configure(conn: Connection[TupleRow], name: str, value: str) -> None:
    conn.execute(f"ALTER SYSTEM SET {name} = '{value}'".encode())
    conn.execute("SELECT pg_reload_conf()")


def says(conn: Connection[TupleRow], query: str) -> Callable[[], bool]:
    def ask_it() -> bool:
        row = conn.execute(query.encode()).fetchone()
        return bool(row and row[0])

    return ask_it


async def test_a_server_that_does_not_write_to_disk_fails(given: Settings, conn: Connection[TupleRow]) -> None:
    fails(await ask(given, "postgres"), "fsync", saying="fsync off")
    configure(conn, "fsync", "on")
    until(says(conn, "SELECT current_setting('fsync') = 'on'"))
    passes(await ask(given, "postgres"), "fsync")
    configure(conn, "fsync", "off")


async def test_the_age_of_a_backup_is_judged_where_it_is_told(settings: Settings) -> None:
    warns(await ask(settings, "copies"), "backup-age", saying="not seen")
    passes(await ask(settings, "copies", backup_age_h=9.0), "backup-age", saying="9 hours")
    fails(await ask(settings, "copies", backup_age_h=50.0), "backup-age", saying="50 hours")


async def test_a_log_that_is_not_archived_is_told(
    settings: Settings, given: Settings, conn: Connection[TupleRow]
) -> None:
    warns(await ask(settings, "copies"), "wal-archiving", saying="archive_mode is off")
    warns(await ask(given, "copies"), "wal-archiving", saying="not seen")
    switch = "SELECT pg_logical_emit_message(true, 'doctor', 'x'), pg_switch_wal()"
    conn.execute("SET client_min_messages = error")
    configure(conn, "archive_command", "false")
    conn.execute(switch)
    until(says(conn, "SELECT failed_count > 0 FROM pg_stat_archiver"))
    fails(await ask(given, "copies"), "wal-archiving", saying="failed 0 min ago")
    configure(conn, "archive_command", "true")
    conn.execute(switch)
    until(says(conn, "SELECT archived_count > 0 AND last_archived_time > last_failed_time FROM pg_stat_archiver"))
    passes(await ask(given, "copies"), "wal-archiving")


async def test_a_replica_that_falls_behind_fails(
    settings: Settings, given: Settings, standby: OwnServer, conn: Connection[TupleRow]
) -> None:
    warns(await ask(settings, "copies"), "replica-lag", saying="No replica")
    until(says(conn, "SELECT bool_or(replay_lsn = pg_current_wal_lsn()) FROM pg_stat_replication"))
    url = standby.server.url

    def beside(replica: str) -> Settings:
        return given.model_copy(update={"database_replica_url": replica})

    passes(await ask(beside(url), "copies"), "replica-lag", saying="Of 1 replicas")
    warns(await ask(beside(given.database_url), "copies"), "replica-lag", saying="names no standby")
    fails(await ask(given.model_copy(update={"database_url": url}), "postgres"), "postgres", saying="is a standby")
    with psycopg.connect(url, autocommit=True) as there:
        there.execute("SELECT pg_wal_replay_pause()")
        conn.execute("SELECT pg_logical_emit_message(false, 'doctor', repeat('x', 17 << 20))")
        fails(await ask(given, "copies"), "replica-lag", saying="The limits are 16 MiB")
        fails(await ask(beside(url), "copies"), "replica-lag", saying="DATABASE_REPLICA_URL is 17")
        there.execute("SELECT pg_wal_replay_resume()")
