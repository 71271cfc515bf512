"""Real servers for every test: Postgres and Valkey, embedded or those of DATABASE_URL and REDIS_URL.

A test that asks for `database_url` has a migrated database of its own, copied from a template made once per run.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
import pytest
import redis
from psycopg import AsyncConnection, sql
from psycopg.rows import TupleRow

from relay.migrate import migrate
from relay.processes import spawn_options
from relay.settings import Settings, read_settings
from relay.up.embedded import (
    POSTGRES_OPTIONS,
    Server,
    postgres_refusal,
    prepare_postgres,
    prepare_valkey,
    redis_refusal,
)
from tests.folders import server_folder

# A shell that runs the tests in the background has Ctrl-C ignored, and the commands started here would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
SIGNING_KEY = "a signing key that only tests use"
START_TIMEOUT_S = 30.0
# What is killed here are processes, never the machine, so nothing has to reach the disk.
TEST_POSTGRES_OPTIONS = {
    **POSTGRES_OPTIONS,
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "128MB",
    "max_wal_size": "256MB",
    "max_connections": "200",
}


@pytest.fixture(scope="session", name="server_folder")
def _server_folder() -> Iterator[Path]:
    """A data folder for the servers of this run."""
    with server_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def postgres_url(server_folder: Path) -> Iterator[str]:
    """A Postgres server, by the URL of its maintenance database; its user may create databases."""
    given = os.environ.get("DATABASE_URL")
    if given is not None:
        yield given
        return
    server = prepare_postgres(server_folder, options=TEST_POSTGRES_OPTIONS)
    maintenance = with_database(server.url, "postgres")
    process = start(server, lambda: postgres_refusal(maintenance), folder=server_folder)
    yield maintenance
    stop(server, process)


@pytest.fixture(scope="session")
def redis_server_url(server_folder: Path) -> Iterator[str]:
    """A Redis or Valkey server; what is in it belongs to whichever test runs."""
    given = os.environ.get("REDIS_URL")
    if given is not None:
        yield given
        return
    server = prepare_valkey(server_folder)
    process = start(server, lambda: redis_refusal(server.url), folder=server_folder)
    yield server.url
    stop(server, process)


@pytest.fixture(scope="session")
def template_database(postgres_url: str) -> Iterator[str]:
    """The name of a migrated, empty database that others are copied from."""
    with temporary_database(postgres_url) as name:
        migrate(with_database(postgres_url, name))
        yield name


@pytest.fixture
def database_url(postgres_url: str, template_database: str) -> Iterator[str]:
    """A migrated database for this test alone."""
    with temporary_database(postgres_url, template=template_database) as name:
        yield with_database(postgres_url, name)


@pytest.fixture
def empty_database_url(postgres_url: str) -> Iterator[str]:
    """A database without any table: for tests of the migrations themselves."""
    with temporary_database(postgres_url) as name:
        yield with_database(postgres_url, name)


@pytest.fixture
def redis_url(redis_server_url: str) -> str:
    """An empty Redis."""
    client = redis.Redis.from_url(redis_server_url)
    client.flushall()
    client.close()
    return redis_server_url


@pytest.fixture
def settings(database_url: str, redis_url: str) -> Settings:
    """Settings as in development, with small pools: no keys, loopback destinations allowed, no metrics port."""
    return read_settings(
        {
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "SIGNING_KEY": SIGNING_KEY,
            "AUTH_ENABLED": "false",
            "ENABLE_PLAYGROUND": "true",
            "HOST": "127.0.0.1",
            "METRICS_PORT": "0",
            "DATABASE_MAX_CONNS": "4",
            "REDIS_POOL_SIZE": "16",
            "ALLOWED_PRIVATE_NETWORKS": "127.0.0.0/8,::1/128",
        }
    )


@pytest.fixture
async def conn(database_url: str) -> AsyncIterator[AsyncConnection[TupleRow]]:
    """A connection to the test's database on which each statement is its own transaction."""
    connection = await AsyncConnection.connect(database_url, autocommit=True)
    async with connection:
        yield connection


def with_database(url: str, name: str) -> str:
    """The URL of another database on the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


@contextmanager
def temporary_database(server_url: str, *, template: str = "template0") -> Iterator[str]:
    """Lend a database, empty or a copy of a template, and drop it at the end, whoever is still connected."""
    name = f"relay_test_{uuid4().hex}"
    create = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
    drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
    with psycopg.connect(server_url, autocommit=True) as conn:
        conn.execute(create.format(sql.Identifier(name), sql.Identifier(template)))
    yield name
    with psycopg.connect(server_url, autocommit=True) as conn:
        conn.execute(drop.format(sql.Identifier(name)))


def start(server: Server, refusal: Callable[[], str | None], *, folder: Path) -> subprocess.Popen[Any]:
    """Start an embedded server and wait until it answers; its output goes to a file beside its data."""
    log = folder / f"{server.command.name}.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            server.command.argv, stdout=output, stderr=subprocess.STDOUT, **spawn_options(server.command)
        )
    deadline = time.monotonic() + START_TIMEOUT_S
    while (reason := refusal()) is not None:
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"{server.command.name} did not start: {reason}\n{log.read_text()[-2000:]}")
        time.sleep(0.02)
    return process


def stop(server: Server, process: subprocess.Popen[Any]) -> None:
    """Stop an embedded server in good order, and by force if it does not obey."""
    process.send_signal(server.command.stop_signal)
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
