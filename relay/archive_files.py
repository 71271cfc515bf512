"""Archived days as files: a folder for each day, with a manifest and what `COPY … TO` says of each table, by gzip.

A day's folder is complete or not there: it is written under another name, forced to the disk, read back, and renamed.
Its tables go only when their rows have been counted against it. psql can load the files too, without Relay.
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from shutil import rmtree
from typing import Literal

import msgspec
import psycopg
from psycopg import Connection, sql
from psycopg.rows import TupleRow

from relay import archive
from relay.archive import LETTERS, SCHEMA, Day, alone, archived
from relay.errors import Conflict, Invalid, NotFound, Unavailable
from relay.partitions import TABLES

_MANIFEST = "manifest.json"
_LEVEL = 6
#: A statement reads this many pages at first, and then as many as take about a second: no snapshot gets old by it.
_PAGES = 256
_STATEMENT_S = 1.0
#: So much text is loaded by one statement.
_LOAD_BYTES = 16 << 20
_BLOCK = 1 << 18


class TableFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a file holds: the columns of its lines in order, how many lines, and the SHA-256 of the file as it lies there."""

    columns: list[str]
    rows: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a day's folder holds, by table."""

    format: Literal[1]
    day: date
    schema_version: int
    written_at: datetime
    tables: dict[str, TableFile]


def write(conn: Connection[TupleRow], day: Day, folder: Path) -> Path:
    """Write an archived day to `folder`, drop it from the database, and return its own folder there. Needs autocommit.

    A folder of that day that is there and holds the same rows is taken for it; Conflict when it holds others.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / day.day.isoformat()
    with _locked(folder):
        if not target.exists():
            _write_day(conn, day, target)
        elif not _same(conn, day, target):
            raise Conflict(f"{target} holds other rows than the archive has of that day; move it away first.")
        _exchange(conn, day, read(folder, day.day))
    return target


def read(folder: Path, day: date) -> Manifest:
    """Read a day's manifest and compare its files with it; raise NotFound without one, Invalid when they do not fit."""
    place = folder / day.isoformat()
    try:
        manifest = msgspec.json.decode((place / _MANIFEST).read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise NotFound(f"{place} holds no archived day.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as cause:
        raise Invalid(f"{place / _MANIFEST} is not a manifest that this Relay can read: {cause}.") from cause
    if manifest.day != day or not set(manifest.tables) <= {*TABLES, LETTERS}:
        raise Invalid(f"{place / _MANIFEST} is of another day, or of tables that Relay does not archive.")
    for table, file in manifest.tables.items():
        path = _path(place, table)
        if not path.exists() or _sha256(path) != file.sha256:
            raise Invalid(f"{path} is missing or damaged: its SHA-256 is not that of the manifest.")
    return manifest


def load(conn: Connection[TupleRow], day: date, folder: Path) -> None:
    """Load a day from its files into the archive, unless it is there; all of it or nothing. Needs autocommit.

    A column that is new since has its default; one that is gone since is left out.
    """
    if any(one.day == day for one in archive.list_(conn)):
        return
    manifest = read(folder, day)
    version = _schema_version(conn)
    if manifest.schema_version > version:
        raise Conflict(f"{day} was written by a newer Relay (schema {manifest.schema_version}, here {version}).")
    with alone(conn):
        archive.make_schema(conn)
    for table, file in manifest.tables.items():
        _load_table(conn, table, file, path=_path(folder / day.isoformat(), table), into=_loading(table, day))
    with alone(conn):
        for table in manifest.tables:
            name = sql.Identifier(f"{table}_{day:%Y%m%d}")
            conn.execute(sql.SQL("ALTER TABLE {} RENAME TO {}").format(_loading(table, day), name))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let nobody else write to the folder; the lock ends with the process, however it ends."""
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(f"Another `relay archive` writes to {folder}.") from None
        yield


def _write_day(conn: Connection[TupleRow], day: Day, target: Path) -> None:
    part = target.with_name(f".{target.name}.part")
    if part.exists():
        rmtree(part)  # what was killed left it
    part.mkdir(mode=0o700)
    tables = {table: _write_table(conn, table, day.day, _path(part, table)) for table in day.tables}
    manifest = Manifest(1, day.day, _schema_version(conn), datetime.now(UTC), tables)
    with (part / _MANIFEST).open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    _folder_to_disk(part)
    part.rename(target)
    _folder_to_disk(target.parent)


def _write_table(conn: Connection[TupleRow], table: str, day: date, path: Path) -> TableFile:
    columns = archive.columns(conn, archived(table, day))
    rows, text = 0, hashlib.sha256()
    with path.open("xb") as raw:
        with gzip.GzipFile(path.name.removesuffix(".gz"), "wb", _LEVEL, raw, mtime=0) as out:
            for piece in _pieces(conn, archived(table, day), columns):
                out.write(piece)
                text.update(piece)
                rows += piece.count(b"\n")
        raw.flush()
        os.fsync(raw.fileno())
    if _text_of(path) != (text.digest(), rows):
        raise Unavailable(f"{path} does not read as it was written: is the disk sound?")
    return TableFile(columns, rows, _sha256(path))


def _same(conn: Connection[TupleRow], day: Day, target: Path) -> bool:
    """Whether the files are those of the archived tables, as when a run was killed before it dropped these."""
    files = read(target.parent, day.day).tables
    if set(files) != set(day.tables):
        return False
    for table, file in files.items():
        text = hashlib.sha256()
        for piece in _pieces(conn, archived(table, day.day), file.columns):
            text.update(piece)
        if text.digest() != _text_of(_path(target, table))[0]:
            return False
    return True


def _pieces(conn: Connection[TupleRow], table: sql.Identifier, columns: list[str]) -> Iterator[bytes]:
    """All rows as COPY writes them, read in page order: nobody writes to an archived table."""
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    row = conn.execute(
        "SELECT pg_relation_size(%s::regclass) / current_setting('block_size')::int", (table.as_string(conn),)
    ).fetchall()
    first, pages, end = 0, _PAGES, int(row[0][0])
    while first < end:
        statement = sql.SQL(
            "COPY (SELECT {} FROM {} WHERE ctid >= {}::tid AND ctid < {}::tid) TO STDOUT (ENCODING 'UTF8')"
        ).format(names, table, f"({first},0)", f"({first + pages},0)")
        began = time.monotonic()
        with conn.transaction(), conn.cursor() as cursor:
            cursor.execute(
                """SELECT set_config('datestyle', 'ISO', true), set_config('timezone', 'UTC', true),
                          set_config('bytea_output', 'hex', true), set_config('extra_float_digits', '1', true)"""
            )
            with cursor.copy(statement) as copy:
                yield from _joined(copy)
        first += pages
        pages = max(1, pages // 2) if time.monotonic() - began > _STATEMENT_S else pages * 2


def _joined(rows: Iterable[bytes | bytearray | memoryview]) -> Iterator[bytes]:
    """Rows in pieces of a size that is worth a call."""
    piece = bytearray()
    for row in rows:
        piece += row
        if len(piece) >= _BLOCK:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece)


def _exchange(conn: Connection[TupleRow], day: Day, manifest: Manifest) -> None:
    """Drop the tables for which there are files now, after their rows were counted once more."""
    with alone(conn):
        for table in day.tables:
            name = archived(table, day.day)
            conn.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(name))
            rows = conn.execute(sql.SQL("SELECT count(*) FROM {}").format(name)).fetchall()[0][0]
            file = manifest.tables.get(table)
            if file is None or file.rows != rows:
                raise Conflict(f"The files of {day.day} do not hold all rows of {table}. Nothing was dropped.")
        archive.drop_tables(conn, day.day, day.tables)


def _load_table(conn: Connection[TupleRow], table: str, file: TableFile, *, path: Path, into: sql.Identifier) -> None:
    conn.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(into))
    conn.execute(sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL)").format(into, sql.Identifier(table)))
    known = set(archive.columns(conn, into))
    gone = [sql.Identifier(name) for name in file.columns if name not in known]
    for name in gone:
        conn.execute(sql.SQL("ALTER TABLE {} ADD COLUMN {} text").format(into, name))
    names = sql.SQL(", ").join(map(sql.Identifier, file.columns))
    statement = sql.SQL("COPY {} ({}) FROM STDIN (ENCODING 'UTF8')").format(into, names)
    rows = 0
    try:
        for lines in _lines(path):
            with conn.cursor() as cursor:
                with cursor.copy(statement) as copy:
                    copy.write(lines)
                rows += cursor.rowcount
    except (psycopg.DataError, psycopg.IntegrityError) as cause:
        raise Invalid(f"{path} does not fit into the table {table}: {cause}") from cause
    if rows != file.rows:
        raise Invalid(f"{path} holds {rows} rows; the manifest says {file.rows}.")
    for name in gone:
        conn.execute(sql.SQL("ALTER TABLE {} DROP COLUMN {}").format(into, name))


def _lines(path: Path) -> Iterator[bytes]:
    """The text of a file in pieces of whole lines."""
    with gzip.open(path) as file:
        while piece := file.read(_LOAD_BYTES):
            yield piece + file.readline()


def _loading(table: str, day: date) -> sql.Identifier:
    """What a table is called while it is not whole."""
    return sql.Identifier(SCHEMA, f"loading_{table}_{day:%Y%m%d}")


def _text_of(path: Path) -> tuple[bytes, int]:
    """The SHA-256 of what a file holds, and how many lines."""
    rows, text = 0, hashlib.sha256()
    with gzip.open(path) as file:
        while piece := file.read(_BLOCK):
            text.update(piece)
            rows += piece.count(b"\n")
    return text.digest(), rows


def _path(folder: Path, table: str) -> Path:
    assert table in (*TABLES, LETTERS)
    return folder / f"{table}.copy.gz"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _folder_to_disk(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _schema_version(conn: Connection[TupleRow]) -> int:
    return conn.execute("SELECT coalesce(max(version), 0) FROM schema_migrations").fetchall()[0][0]
