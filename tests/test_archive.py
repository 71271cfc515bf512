"""Archive, drop, restore: a day goes out of Relay's tables and comes back, and nothing is lost wherever it is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import psycopg
import pytest
from falcon.testing import ASGIConductor
from psycopg import Connection
from psycopg.rows import TupleRow

from api.app import create_app
from relay import archive, archive_files, partitions
from relay.cli.main import main
from relay.errors import Conflict, Invalid, NotFound, Unavailable
from relay.ids import floor_at, unix_time
from relay.partitions import Partition
from relay.runtime import Worker
from relay.settings import Settings
from tests.aged import fill, pass_days
from tests.api.conftest import Api
from tests.running import until_so, worker
from tests.scale import sized
from tests.sink import Answer, Sink

TODAY = datetime.now(UTC).date()
OLD = TODAY - timedelta(days=40)
LATER = datetime.now(UTC) + timedelta(days=7)

STORY = """query($id: ID!) {
  event(id: $id) {
    id eventType payload contentType headers priority idempotencyKey subject createdAt status attempts deliveredAt
    deliveries {
      id status attempts deliveredAt reason createdAt sequence destination maxAttempts priority event { id payload }
      deliveryAttempts {
        id attemptNumber attemptedAt statusCode reason error responseBody responseHeaders requestHeaders timings peerIp
      }
    }
  }
  explainEvent(id: $id) { endpointId matched why recorded delivery { id status } }
  unsettled: deliveries(filter: {settled: false}) { nodes { id event { id } } }
  events { nodes { id } }
}"""
NOTHING = {"event": None, "explainEvent": [], "unsettled": {"nodes": []}, "events": {"nodes": []}}


@asynccontextmanager
async def an_old_event(settings: Settings, tmp_path: Path) -> AsyncIterator[tuple[Api, str, date]]:
    """An event of 40 days ago that one endpoint got, that died at another, and that a third did not subscribe to."""
    with Sink(lambda arrival: Answer(500 if arrival.path == "/broken" else 200)) as sink:
        async with ASGIConductor(create_app(settings)) as conductor:
            api = Api(conductor)
            for path, fields in (("/good", {}), ("/broken", {"maxRetries": 0}), ("/other", {"eventTypes": ["x.y"]})):
                given = {"url": sink.url(path), "eventTypes": ["*"], **fields}
                await api.data("mutation($i: CreateEndpointInput!) { createEndpoint(input: $i) { secret } }", i=given)
            sent = {"eventType": "order.paid", "payload": {"n": 1.0, "text": "zwei\\Zeilen\n\tund mehr"}}
            id = (await api.post("/api/v1/events", {**sent, "idempotencyKey": "k1"})).json["id"]
            running = worker(settings, tmp_path / "worker.log")
            try:
                await until_so(lambda: is_done(api, id))
            finally:
                running.kill()
            with psycopg.connect(settings.database_url, autocommit=True) as conn:
                pass_days(conn, 40)
                ((then,),) = conn.execute("SELECT id FROM events WHERE type = 'order.paid'").fetchall()
            yield api, str(then), datetime.fromtimestamp(unix_time(then), UTC).date()


async def is_done(api: Api, id: str) -> bool:
    event = (await api.data(STORY, id=id))["event"]
    return sorted(one["status"] for one in event["deliveries"]) == ["DEAD", "DELIVERED"]


async def answers(api: Api, id: str) -> Any:
    return await api.data(STORY, id=id)


def relay(settings: Settings, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    return main(["archive", *arguments])


async def test_the_same_event_answers_as_before(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "files"
    async with an_old_event(settings, tmp_path) as (api, id, day):
        before = await answers(api, id)
        assert len(before["unsettled"]["nodes"]) == 1

        assert relay(settings, monkeypatch, "put", str(day)) == 0
        assert await answers(api, id) == NOTHING
        assert relay(settings, monkeypatch, "restore", str(day)) == 0
        assert await answers(api, id) == before

        assert relay(settings, monkeypatch, "put", "--older-than", "30d") == 0
        assert await answers(api, id) == before, "what was brought back stays"
        assert relay(settings, monkeypatch, "put", str(day), "--to-file", str(folder)) == 0
        assert await answers(api, id) == NOTHING
        capsys.readouterr()
        assert relay(settings, monkeypatch, "list", "--json") == 0
        listed = json.loads(capsys.readouterr().out)
        assert str(day) not in [one["day"] for one in listed["archived"]]
        assert relay(settings, monkeypatch, "restore", str(day)) == 1
        assert "is not in the archive" in capsys.readouterr().err
        assert relay(settings, monkeypatch, "restore", str(day), "--from-file", str(folder)) == 0
        assert await answers(api, id) == before
        assert (await api.post("/api/v1/events", {"eventType": "a.b", "payload": 1})).status_code == 202


# ---- days of which the rows are known --------------------------------------------------------------------------------


@pytest.fixture
def db(database_url: str) -> Iterator[Connection[TupleRow]]:
    """A database with some rows on the day 40 days ago, and the partitions of that day and its neighbours."""
    with psycopg.connect(database_url, autocommit=True, prepare_threshold=None) as conn:
        partitions.ensure(conn, now=datetime.combine(OLD, datetime.min.time(), UTC))
        fill(conn, OLD, 300)
        yield conn


def content(conn: Connection[TupleRow], schema: str = "public") -> dict[str, list[str]]:
    """All rows of that day in a schema, by table, as text."""
    found: dict[str, list[str]] = {}
    for table in (*partitions.TABLES, archive.LETTERS):
        name = f"{schema}.{Partition(table, OLD).name}" if schema != "public" else table
        if conn.execute("SELECT to_regclass(%s)", (name,)).fetchone() != (None,):
            found[table] = sorted(row[0] for row in conn.execute(f"SELECT t::text FROM {name} t".encode()))
    return found


def names(conn: Connection[TupleRow], day: date = OLD) -> set[str]:
    return {one.name for one in partitions.existing(conn) if one.day == day}


def test_a_day_is_the_same_after_the_archive_and_after_its_files(db: Connection[TupleRow], tmp_path: Path) -> None:
    before = content(db)
    assert [len(before[table]) for table in ("events", "attempts", "dead_letters")] == [300, 300, 200]
    assert len(archive.put(db, OLD)) == 4
    assert archive.put(db, OLD) == []
    assert content(db, archive.SCHEMA) == before
    assert content(db) == {table: [] for table in before}
    archive.restore(db, OLD, until=LATER)
    assert content(db) == before
    assert db.execute("SELECT count(*) FROM pg_constraint WHERE conname LIKE '%%id_check'").fetchall() == [(0,)]
    archive.put(db, OLD)
    place = archive_files.write(db, archive.get(db, OLD), tmp_path / "new" / "folder")
    assert archive.list_(db) == []
    assert oct(place.stat().st_mode)[-3:] == "700"
    archive_files.load(db, OLD, place.parent)
    archive_files.load(db, OLD, place.parent)
    assert content(db, archive.SCHEMA) == before
    archive.restore(db, OLD, until=LATER)
    assert content(db) == before
    archive.put(db, OLD)
    assert archive_files.write(db, archive.get(db, OLD), place.parent) == place, "the same rows: they are there already"
    archive_files.load(db, OLD, place.parent)
    assert archive.drop(db, OLD).day == OLD
    assert archive.list_(db) == []
    with pytest.raises(NotFound, match="is not in the archive"):
        archive.drop(db, OLD)


def test_what_is_needed_young_unknown_or_there_already_is_refused_in_a_sentence(db: Connection[TupleRow]) -> None:
    id = floor_at(datetime.combine(OLD, datetime.min.time(), UTC).timestamp())
    db.execute("INSERT INTO scheduled VALUES (%s, %s, now())", (id, id))
    with pytest.raises(Conflict, match=f"{OLD} cannot be archived: .* from {OLD} on"):
        archive.put(db, OLD)
    assert archive.put_older(db, keep_days=30) == [
        Partition(table, OLD - timedelta(days=days)).name for table in sorted(partitions.TABLES) for days in (2, 1)
    ]
    db.execute("DELETE FROM scheduled")
    db.execute("UPDATE dead_letters SET died_at = now() - interval '6 days'")
    with pytest.raises(Conflict, match="died in the last 7 days"):
        archive.put(db, OLD)
    with pytest.raises(Conflict, match="is too young"):
        archive.put(db, TODAY - timedelta(days=2))
    with pytest.raises(NotFound, match="neither in place nor in the archive"):
        archive.put(db, OLD - timedelta(days=100))
    with pytest.raises(Conflict, match="it is in place"):
        archive.restore(db, OLD, until=LATER)
    db.execute(f"CREATE TABLE relay_archive.{Partition('events', OLD).name} (LIKE events)".encode())
    with pytest.raises(Conflict, match="events_.* cannot be restored: a partition of this name is in place"):
        archive.restore(db, OLD, until=LATER)


def test_a_reader_puts_the_archive_off_and_what_was_half_done_can_be_finished_or_undone(
    db: Connection[TupleRow], database_url: str
) -> None:
    before = content(db)
    with psycopg.connect(database_url) as reader:
        reader.execute("SELECT count(*) FROM history")
        with pytest.raises(Unavailable, match=f"{Partition('history', OLD).name} cannot be archived while"):
            archive.put(db, OLD)
    assert names(db) == {Partition("history", OLD).name}
    archive.restore(db, OLD, until=LATER)
    assert content(db) == before
    with psycopg.connect(database_url) as reader:
        reader.execute("SELECT count(*) FROM history")
        with pytest.raises(Unavailable):
            archive.put(db, OLD)
    assert archive.put(db, OLD) == [Partition("history", OLD).name]
    assert content(db, archive.SCHEMA) == before


def test_two_at_once_are_one(db: Connection[TupleRow], database_url: str) -> None:
    before = content(db)

    def put() -> None:
        with psycopg.connect(database_url, autocommit=True) as conn:
            for _ in range(3):
                try:
                    archive.put(conn, OLD)
                    return
                except Unavailable:
                    continue

    threads = [threading.Thread(target=put) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    archive.put(db, OLD)
    assert content(db, archive.SCHEMA) == before


async def test_the_clock_archives_instead_of_dropping_where_it_is_told_to(
    db: Connection[TupleRow], settings: Settings
) -> None:
    before = content(db)
    Worker(settings.model_copy(update={"retention_archive": True}))._maintain_partitions()
    assert content(db, archive.SCHEMA) == before
    archive.restore(db, OLD, until=LATER)
    keeper = Worker(settings)
    keeper._maintain_partitions()
    assert content(db) == before, "it stays until its time is over"
    for one in partitions.existing(db):
        if one.day == OLD:
            partitions.stay(db, one, until=datetime.now(UTC))
    keeper._maintain_partitions()
    assert names(db) == set()
    assert content(db, archive.SCHEMA) == before, "what was brought back is never dropped"
    assert {one.day for one in archive.list_(db)} >= {OLD, OLD - timedelta(days=1)}


def test_a_day_of_an_older_schema_comes_back_with_defaults(db: Connection[TupleRow], tmp_path: Path) -> None:
    archive.put(db, OLD)
    archive_files.write(db, archive.get(db, OLD), tmp_path)
    archive_files.load(db, OLD, tmp_path)
    db.execute(
        "ALTER TABLE events ADD COLUMN region text NOT NULL DEFAULT 'eu' CHECK (region <> ''), DROP COLUMN subject"
    )
    db.execute("ALTER TABLE dead_letters ADD COLUMN seen bool NOT NULL DEFAULT false")
    db.execute("CREATE INDEX events_region ON events (region)")
    archive.restore(db, OLD, until=LATER)
    counted = "SELECT count(*), count(*) FILTER (WHERE region = 'eu'), sum(length(payload)) FROM events"
    ((count, at_home, size),) = db.execute(counted).fetchall()
    assert (count, at_home) == (300, 300)
    archive.put(db, OLD)
    archive.drop(db, OLD)
    archive_files.load(db, OLD, tmp_path)
    archive.restore(db, OLD, until=LATER)
    assert db.execute(counted).fetchall() == [(count, at_home, size)]
    assert db.execute("SELECT count(*) FROM dead_letters WHERE NOT seen").fetchall() == [(200,)]


def test_files_that_are_damaged_or_of_a_newer_relay_are_refused_and_load_nothing(
    db: Connection[TupleRow], tmp_path: Path
) -> None:
    archive.put(db, OLD)
    place = archive_files.write(db, archive.get(db, OLD), tmp_path)
    manifest = json.loads((place / "manifest.json").read_text())
    assert manifest["tables"]["events"]["rows"] == 300
    damage: dict[str, tuple[type[Exception], Callable[[dict[str, Any]], object]]] = {
        "by a newer Relay": (Conflict, lambda m: m.update(schema_version=999)),
        "another day": (Invalid, lambda m: m.update(day="2020-01-01")),
        "is not a manifest": (Invalid, lambda m: m.update(format=2)),
        "tables that Relay": (Invalid, lambda m: m["tables"].update(tenants=m["tables"]["events"])),
        "the manifest says 7": (Invalid, lambda m: m["tables"]["events"].update(rows=7)),
        "does not fit into": (Invalid, lambda m: m["tables"]["events"]["columns"].pop()),
        "missing or damaged": (Invalid, lambda m: m["tables"]["events"].update(sha256="0")),
    }
    for sentence, (kind, spoil) in damage.items():
        spoiled = json.loads(json.dumps(manifest))
        spoil(spoiled)
        (place / "manifest.json").write_text(json.dumps(spoiled))
        with pytest.raises(kind, match=sentence):
            archive_files.load(db, OLD, tmp_path)
        assert archive.list_(db) == []
    with pytest.raises(NotFound, match="holds no archived day"):
        archive_files.load(db, OLD, tmp_path / "elsewhere")
    (place / "manifest.json").write_text(json.dumps(manifest))
    archive_files.load(db, OLD, tmp_path)
    assert len(content(db, archive.SCHEMA)["events"]) == 300


def test_a_folder_with_other_rows_of_the_day_is_left_alone_and_nothing_is_dropped(
    db: Connection[TupleRow], tmp_path: Path
) -> None:
    archive.put(db, OLD)
    place = archive_files.write(db, archive.get(db, OLD), tmp_path)
    archive_files.load(db, OLD, tmp_path)
    db.execute(f"UPDATE relay_archive.{Partition('events', OLD).name} SET payload = ''".encode())
    files = {path.name: path.read_bytes() for path in place.iterdir()}
    with pytest.raises(Conflict, match="holds other rows than the archive"):
        archive_files.write(db, archive.get(db, OLD), tmp_path)
    assert {path.name: path.read_bytes() for path in place.iterdir()} == files
    assert len(content(db, archive.SCHEMA)["events"]) == 300


def test_killed_anywhere_it_is_finished_by_running_it_again(
    db: Connection[TupleRow], database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    before = content(db)
    for step in (sized(7, 61), 89)[: sized(2, 1)]:
        kills = run_killed_again_and_again("put", str(OLD), "--to-file", str(tmp_path), step=step)
        assert archive.list_(db) == []
        assert content(db) == {table: [] for table in before}
        kills += run_killed_again_and_again("restore", str(OLD), "--from-file", str(tmp_path), step=step)
        assert content(db) == before
        assert kills > 5
        shutil.rmtree(tmp_path / str(OLD))


def run_killed_again_and_again(*arguments: str, step: int) -> int:
    """Run `relay archive` in children, each killed some lines of ours later than the one before; return how many were."""
    kills, lines = 0, step
    while (status := run_killed(*arguments, after_lines=lines)) == signal.SIGKILL:
        kills, lines = kills + 1, lines + step
    assert status == 0 or (arguments[0] == "restore" and kills), status
    return kills


#: What these run through row by row is no step.
NO_STEPS = {"<listcomp>", "<dictcomp>", "<genexpr>", "<setcomp>", "parsed", "_end_of_stay", "_joined", "name"}


def run_killed(*arguments: str, after_lines: int) -> int:
    """Run `relay archive` in a child that kills itself when it has run so many lines of ours; return how it ended."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    left = after_lines

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        name, place = frame.f_code.co_name, frame.f_code.co_filename
        if name in NO_STEPS or not ("/relay/archive" in place or "/relay/partitions" in place):
            return None
        left -= event == "line"
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)
    code = 99
    try:
        code = main(["archive", *arguments])
    finally:
        os._exit(code)
