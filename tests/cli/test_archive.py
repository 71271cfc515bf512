"""`relay archive`: what it prints, what it refuses, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import Connection
from psycopg.rows import TupleRow

from relay import partitions
from relay.cli.main import main

OLD = datetime.now(UTC) - timedelta(days=40)
#: Partitions are made of two days before, and of seven after.
DAYS = [str(OLD.date() + timedelta(days=offset)) for offset in range(-2, 8)]


@pytest.fixture
def db(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, database_url: str) -> Iterator[Connection[TupleRow]]:
    """The database alone is known: the archive needs no Redis and no key."""
    monkeypatch.setenv("RELAY_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", database_url)
    for name in ("REDIS_URL", "SIGNING_KEY"):
        monkeypatch.delenv(name, raising=False)
    with psycopg.connect(database_url, autocommit=True) as conn:
        partitions.ensure(conn, now=OLD)
        yield conn


def run(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    """Run `relay archive`, which must end so; return what it printed."""
    assert main(["archive", *arguments]) == code
    printed = capsys.readouterr()
    return printed.out if code == 0 else printed.err


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    return json.loads(run(capsys, *arguments, "--json"))


def test_days_go_into_the_schema_and_into_files_and_come_back(
    db: Connection[TupleRow], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "backups"
    assert run(capsys, "list") == "Nothing is in the archive.\n"
    assert run(capsys, "put", DAYS[0], DAYS[1]) == f"archived {DAYS[0]}\narchived {DAYS[1]}\n"
    listed = run(capsys, "list").splitlines()
    assert listed[0].split() == ["day", "bytes", "tables"]
    assert [line.split()[0] for line in listed[1:]] == DAYS[:2]
    assert run_json(capsys, "put", "--older-than", "30d") == {"archived": DAYS[2:], "written": [], "left": []}
    assert run(capsys, "put", "--older-than", "30d") == "Nothing to archive.\n"
    restored = run_json(capsys, "restore", DAYS[0], "--keep", "2d")
    assert restored["day"] == DAYS[0]
    assert restored["restored"] == [f"{table}_{DAYS[0].replace('-', '')}" for table in partitions.TABLES]
    ends_in = datetime.fromisoformat(restored["until"]) - datetime.now(UTC)
    assert timedelta(days=1, hours=23) < ends_in <= timedelta(days=2)
    assert f"{DAYS[0]} was brought back and stays until" in run(capsys, "list")
    listed_now = run_json(capsys, "list")
    assert [one["day"] for one in listed_now["restored"]] == DAYS[:1]
    assert [one["day"] for one in listed_now["archived"]] == DAYS[1:]
    written = run_json(capsys, "put", "--older-than", "30d", "--to-file", str(folder))
    assert written == {"archived": [], "written": [str(folder / day) for day in DAYS[1:]], "left": []}
    assert run(capsys, "put", DAYS[1], "--to-file", str(folder)) == "Nothing to archive.\n"
    assert run(capsys, "put", DAYS[0], "--to-file", str(folder)).splitlines()[0] == f"archived {DAYS[0]}"
    assert f"{DAYS[1]} is back, and stays until" in run(capsys, "restore", DAYS[1], "--from-file", str(folder))
    run(capsys, "put", DAYS[1])
    dropped = run_json(capsys, "drop", DAYS[1])["dropped"]
    assert (dropped["day"], len(dropped["tables"])) == (DAYS[1], 5)


def test_days_that_are_needed_are_left_and_named(
    db: Connection[TupleRow], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    needed = partitions.floor_of(OLD.date())
    db.execute("INSERT INTO scheduled VALUES (%s, %s, now())", (needed, needed))
    done = run_json(capsys, "put", "--older-than", "30d", "--to-file", str(tmp_path))
    assert done == {"archived": DAYS[:2], "written": [str(tmp_path / day) for day in DAYS[:2]], "left": DAYS[2:]}
    told = run(capsys, "put", "--older-than", "30d").splitlines()
    assert [line.split(":")[0] for line in told] == [f"left {day}" for day in DAYS[2:]]


def test_what_cannot_be_done_is_one_sentence(
    db: Connection[TupleRow], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    young = str(datetime.now(UTC).date())
    assert "is too young: days up to" in run(capsys, "put", young, code=1)
    assert run(capsys, "put", code=1) == "relay: Name days, or give --older-than; one of the two.\n"
    assert run(capsys, "put", DAYS[0], "--older-than", "3d", code=1).startswith("relay: Name days")
    assert run(capsys, "restore", DAYS[0], code=1) == f"relay: {DAYS[0]} is not in the archive; it is in place.\n"
    assert run(capsys, "restore", "2020-01-01", code=1) == "relay: 2020-01-01 is not in the archive.\n"
    assert run(capsys, "drop", DAYS[0], code=1) == f"relay: {DAYS[0]} is not in the archive.\n"
    nowhere = str(tmp_path / "nowhere")
    assert "holds no archived day" in run(capsys, "restore", "2020-01-01", "--from-file", nowhere, code=1)
    (tmp_path / "file").write_text("")
    assert run(capsys, "put", DAYS[0], "--to-file", str(tmp_path / "file"), code=1).startswith("relay: ")
    for wrong in (["put", "yesterday"], ["put", "--older-than", "30"], ["restore", DAYS[0], "--keep", "0d"]):
        with pytest.raises(SystemExit) as ended:
            main(["archive", *wrong])
        assert ended.value.code == 2


def test_an_old_schema_is_told(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_database_url)
    assert "run `relay migrate` first" in run(capsys, "put", "--older-than", "30d", code=1)
