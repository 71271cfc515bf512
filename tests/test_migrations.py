"""Migrations: applied once, whoever runs them, whatever is killed, and never for long in the way of intake."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import psycopg
import pytest

from relay.errors import Unavailable
from relay.indexes import parse
from relay.migrate import FOLDER, migrate, migrations, newest_migration
from relay.settings import Settings
from tests.running import CHECKOUT, until
from tests.shop import open_shop

RUN = "import sys; from pathlib import Path; from relay.migrate import migrate; migrate(sys.argv[1], folder=Path(sys.argv[2]))"


def folder_with(files: Mapping[str, str], folder: Path) -> Path:
    """Relay's own migrations and these."""
    shutil.copytree(str(FOLDER), folder, dirs_exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def start_migrating(database_url: str, folder: Path) -> subprocess.Popen[bytes]:
    """A process of its own that migrates."""
    return subprocess.Popen([sys.executable, "-c", RUN, database_url, str(folder)], cwd=CHECKOUT)


def test_every_migration_has_a_number_of_its_own_and_none_is_left_out() -> None:
    assert [migration.version for migration in migrations()] == list(range(1, newest_migration() + 1))
    for migration in migrations():
        if migration.concurrent:
            assert parse(migration.sql)
    assert len(migrations()) == len([file for file in FOLDER.iterdir() if file.name.endswith(".sql")])


def test_several_migrations_at_once_are_one(empty_database_url: str) -> None:
    applied: list[list[str]] = []
    threads = [threading.Thread(target=lambda: applied.append(migrate(empty_database_url))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(applied) == 3
    assert sorted(name for one in applied for name in one) == [migration.name for migration in migrations()]
    with psycopg.connect(empty_database_url) as conn:
        partitions = conn.execute("SELECT count(*) FROM pg_inherits WHERE inhparent = 'events'::regclass").fetchone()
        assert partitions == (10,)
    assert migrate(empty_database_url) == []


async def test_a_migration_killed_in_the_middle_leaves_nothing_and_is_repeated(
    database_url: str, tmp_path: Path
) -> None:
    slow = {"9001_slow.sql": "CREATE TABLE slow (); SELECT pg_sleep(60);"}
    killed = start_migrating(database_url, folder_with(slow, tmp_path))
    with psycopg.connect(database_url, autocommit=True) as conn:
        sleeping = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
        await until(lambda: conn.execute(sleeping).fetchone() is not None, 10, what="the middle of the migration")
        killed.kill()
        killed.wait()
        folder_with({"9001_slow.sql": "CREATE TABLE slow ();"}, tmp_path)
        began = time.monotonic()
        assert await asyncio.to_thread(migrate, database_url, folder=tmp_path) == ["9001_slow"]
        assert time.monotonic() - began < 10, "the statement of a client that is gone must not go on"
    assert migrate(database_url, folder=tmp_path) == []


async def test_a_migration_that_waits_for_a_reader_lets_intake_pass_and_gives_up_in_the_end(
    settings: Settings, database_url: str, tmp_path: Path
) -> None:
    folder_with({"9001_column.sql": "ALTER TABLE events ADD COLUMN later text;"}, tmp_path)
    took: list[float] = []
    async with open_shop(settings) as shop:
        with psycopg.connect(database_url, application_name="a long report") as reader:
            reader.execute("SELECT count(*) FROM events")
            migrating = asyncio.create_task(asyncio.to_thread(migrate, database_url, folder=tmp_path, pauses_s=(0.5,)))
            while not migrating.done():
                began = time.monotonic()
                await shop.send(1)
                took.append(time.monotonic() - began)
                await asyncio.sleep(0.01)
            with pytest.raises(
                Unavailable, match="9001_column is not applied: 2 times .*a long report.*then migrate again"
            ):
                await migrating
        assert 1.0 < max(took) < 3.0, "intake waits behind the migration, for no longer than 2 s"
        assert sorted(took)[len(took) // 2] < 0.5, "and goes on in between"
        assert await asyncio.to_thread(migrate, database_url, folder=tmp_path) == ["9001_column"]
        assert await shop.send(1)


# ---- what a migration may hold ---------------------------------------------------------------------------------------

SQUAWK = Path(sys.executable).parent / "squawk"


def complaints(file: Path) -> str:
    """What squawk says of a migration; empty when it is good."""
    mode = "--no-assume-in-transaction" if file.name.endswith(".concurrently.sql") else "--assume-in-transaction"
    argv = [SQUAWK, "--config", CHECKOUT / ".squawk.toml", "--reporter", "gcc", mode, file]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode == 0) == (done.stdout.strip() == ""), done.stderr
    return done.stdout


@pytest.mark.parametrize("name", [file.name for file in FOLDER.iterdir() if file.name.endswith(".sql")])
def test_a_migration_neither_blocks_intake_nor_breaks_the_release_before(name: str) -> None:
    assert complaints(Path(str(FOLDER)) / name) == ""


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("ALTER TABLE events DROP COLUMN subject;", "ban-drop-column"),
        ("DROP TABLE failing;", "ban-drop-table"),
        ("ALTER TABLE jobs RENAME COLUMN kind TO sort;", "renaming-column"),
        ("ALTER TABLE jobs ADD COLUMN size bigint NOT NULL;", "adding-required-field"),
        ("ALTER TABLE jobs ALTER COLUMN error SET NOT NULL;", "adding-not-nullable-field"),
        ("ALTER TABLE jobs ALTER COLUMN error TYPE bigint USING 1;", "changing-column-type"),
        ("ALTER TABLE jobs ADD CHECK (total > 0);", "constraint-missing-not-valid"),
        ("CREATE INDEX IF NOT EXISTS jobs_kind ON jobs (kind);", "require-concurrent-index-creation"),
    ],
)
def test_the_lint_bites(text: str, rule: str, tmp_path: Path) -> None:
    file = tmp_path / "9001_bad.sql"
    file.write_text(text)
    assert rule in complaints(file)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("9001_table.sql", "CREATE TABLE a (id uuid PRIMARY KEY, n bigint); CREATE INDEX a_n ON a (n);"),
        ("9001_column.sql", "ALTER TABLE jobs ADD COLUMN size bigint NOT NULL DEFAULT 0;"),
        ("9001_check.sql", "ALTER TABLE jobs ADD CONSTRAINT counted CHECK (total >= 0) NOT VALID;"),
        ("9001_index.concurrently.sql", "CREATE INDEX CONCURRENTLY IF NOT EXISTS jobs_kind ON jobs (kind);"),
    ],
)
def test_the_ways_that_the_guide_shows_are_good(name: str, text: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_text(text)
    assert complaints(file) == ""
