"""`relay migrate`: what a deployment waits for, by its exit code and its one sentence."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from relay.cli.main import _parser, main
from relay.migrate import migrate, newest_migration

NEWEST = newest_migration()


@pytest.fixture
def empty(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database without a table, which the commands are given."""
    monkeypatch.setenv("DATABASE_URL", empty_database_url)
    return empty_database_url


@pytest.fixture
def current(database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A migrated database, which the commands are given."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    return database_url


def accept_connections(server_url: str, database_url: str, *, allowed: bool) -> None:
    name = sql.Identifier(urlsplit(database_url).path[1:])
    with psycopg.connect(server_url, autocommit=True) as conn:
        conn.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format(name, sql.Literal(allowed)))


class Command(threading.Thread):
    """A `relay` command on a thread of its own."""

    def __init__(self, *arguments: str) -> None:
        super().__init__()
        self.arguments, self.code = arguments, -1
        self.start()

    def run(self) -> None:
        self.code = main(self.arguments)

    def ended(self) -> int:
        self.join(20)
        assert not self.is_alive()
        return self.code


def test_check_of_an_older_schema_is_one_sentence_and_changes_nothing(
    empty: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["migrate", "--check"]) == 1
    shown = capsys.readouterr()
    assert shown.err == (
        f"relay: The database's schema is at 0, and this Relay needs {NEWEST}: `relay migrate` brings it up to date.\n"
    )
    assert shown.out == ""
    assert main(["migrate", "--check", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {"current": False, "schema": 0, "needed": NEWEST}
    with psycopg.connect(empty) as conn:
        assert conn.execute("SELECT to_regclass('schema_migrations')").fetchone() == (None,)


def test_check_is_good_with_this_schema_and_with_a_newer_one(current: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["migrate", "--check"]) == 0
    assert capsys.readouterr().out == f"The schema is at {NEWEST}, and this Relay needs {NEWEST}.\n"
    with psycopg.connect(current, autocommit=True) as conn:
        conn.execute("INSERT INTO schema_migrations VALUES (9999, '9999_of_a_release_to_come')")
    assert main(["migrate", "--check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"current": True, "schema": 9999, "needed": NEWEST}


def test_check_waits_until_another_process_has_migrated(empty: str, capsys: pytest.CaptureFixture[str]) -> None:
    checking = Command("migrate", "--check", "--wait")
    while "waiting" not in capsys.readouterr().err:
        assert checking.is_alive()
        time.sleep(0.02)
    migrate(empty)
    assert checking.ended() == 0


@pytest.mark.parametrize("check", [["--check"], []])
def test_wait_waits_for_postgres_to_answer(
    current: str, postgres_url: str, check: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    accept_connections(postgres_url, current, allowed=False)
    waiting = Command("migrate", "--wait", "20", *check)
    while "waiting for up to 20 s" not in capsys.readouterr().err:
        assert waiting.is_alive()
        time.sleep(0.02)
    accept_connections(postgres_url, current, allowed=True)
    assert waiting.ended() == 0


@pytest.mark.parametrize("check", [["--check", "--json"], []])
def test_wait_ends_in_time_with_the_reason_and_no_secret(
    check: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://relay:secret@127.0.0.1:1/relay")
    began = time.monotonic()
    assert main(["migrate", "--wait", "0.7", *check]) == 1
    assert 0.7 <= time.monotonic() - began < 5.0
    shown = capsys.readouterr()
    last = shown.err.splitlines()[-1]
    assert last.startswith("relay: ")
    assert "127.0.0.1" in last
    assert "secret" not in shown.err
    if check:
        assert json.loads(shown.out) == {"current": False, "schema": None, "needed": NEWEST}


def test_wait_without_a_number_is_five_minutes_and_left_out_it_is_none() -> None:
    assert _parser().parse_args(["migrate", "--check", "--wait"]).wait == 300
    assert _parser().parse_args(["migrate", "--check"]).wait == 0


@pytest.mark.parametrize("name", ["SIGNING_KEY", "REDIS_URL"])
def test_what_a_migration_does_not_need_may_come_from_a_file(
    current: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mounted").write_text("redis://elsewhere-and-long-enough-for-a-key")
    monkeypatch.setenv(f"{name}_FILE", str(tmp_path / "mounted"))
    assert main(["migrate", "--check"]) == 0, capsys.readouterr().err
