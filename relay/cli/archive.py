"""`relay archive`: days out of Relay's tables, into the schema `relay_archive` or into files, and back again."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import psycopg
from psycopg import Connection
from psycopg.rows import TupleRow

from relay import archive, archive_files
from relay.archive import Day
from relay.cli.environment import command_environment, with_stand_ins
from relay.cli.terminal import iso, print_json, table
from relay.errors import Invalid, NotFound, Unavailable
from relay.partitions import DAYS_BEHIND, existing, parsed
from relay.postgres import connect
from relay.settings import read_settings

_SUMMARY = "take days out of Relay's tables, into a schema of their own or into files, and bring them back"
# The archive is all in Postgres.
_NOT_NEEDED = {"REDIS_URL": "redis://not-needed", "SIGNING_KEY": "not needed to move what is in the database"}
_EXAMPLES = """examples:
  relay archive put --older-than 30d
  relay archive put --older-than 30d --to-file /var/backups/relay
  relay archive restore 2026-10-01 --from-file /var/backups/relay --keep 7d

A day in the archive is seen by nobody: for the API it is as if it had been retired. Every command is safe to repeat.
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its actions."""
    parser = subparsers.add_parser(
        "archive",
        help=_SUMMARY,
        description=f"{_SUMMARY[:1].upper()}{_SUMMARY[1:]}.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="show the days in the archive, and those that were brought back")
    listing.set_defaults(run=run_list)
    put = actions.add_parser("put", help="move days into the schema relay_archive, and on into files")
    put.add_argument("days", nargs="*", type=day_of, metavar="DAY", help="a day in UTC, as 2026-10-01")
    put.add_argument("--older-than", type=days_of, metavar="DAYS", help="every day that is older, as 30d")
    put.add_argument("--to-file", type=Path, metavar="FOLDER", help="write them there, and drop them from the database")
    put.set_defaults(run=run_put)
    restore = actions.add_parser("restore", help="bring a day back; its events answer as before")
    restore.add_argument("day", type=day_of, metavar="DAY", help="a day in UTC, as 2026-10-01")
    restore.add_argument("--from-file", type=Path, metavar="FOLDER", help="from the files that --to-file wrote there")
    restore.add_argument(
        "--keep", type=days_of, default=7, metavar="DAYS", help="then the clock archives it again (default 7d)"
    )
    restore.set_defaults(run=run_restore)
    drop = actions.add_parser("drop", help="delete a day from the schema relay_archive for good; files stay")
    drop.add_argument("day", type=day_of, metavar="DAY", help="a day in UTC, as 2026-10-01")
    drop.set_defaults(run=run_drop)
    for action in (listing, put, restore, drop):
        action.add_argument("--json", action="store_true", help="print what was done or found as JSON")


def day_of(text: str) -> date:
    """Read `2026-10-01`."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError("must be a day like 2026-10-01") from None


def days_of(text: str) -> int:
    """Read `30d`."""
    found = re.fullmatch(r"(\d{1,4})d", text)
    if not found or not int(found[1]):
        raise argparse.ArgumentTypeError("must be a number of days like 30d")
    return int(found[1])


def run_list(args: argparse.Namespace) -> int:
    """Print the days in the archive, and those that were brought back."""
    with _connection() as conn:
        days = archive.list_(conn)
        back = {one.day: one.stays_until for one in existing(conn) if one.stays_until is not None}
    if args.json:
        print_json(
            {
                "archived": [_as_json(one) for one in days],
                "restored": [{"day": str(day), "until": iso(until)} for day, until in sorted(back.items())],
            }
        )
        return 0
    rows = [["day", "bytes", "tables"], *([one.day, f"{one.bytes:,}", " ".join(one.tables)] for one in days)]
    print("\n".join(table(rows)) if days else "Nothing is in the archive.")
    for day, until in sorted(back.items()):
        print(f"{day} was brought back and stays until {iso(until)}.")
    return 0


def run_put(args: argparse.Namespace) -> int:
    """Archive the days that are named or old enough; with --to-file those that are in the archive already, too."""
    if bool(args.days) == (args.older_than is not None):
        raise Invalid("Name days, or give --older-than; one of the two.")
    with _connection() as conn:
        if args.days:
            moved = [name for day in args.days for name in _put(conn, day, written=args.to_file)]
        else:
            moved = archive.put_older(conn, keep_days=args.older_than)
        left = [] if args.days else _left(conn, older_than=args.older_than)
        written = [str(archive_files.write(conn, day, args.to_file)) for day in _to_write(conn, args)]
    days = sorted({str(parsed(name)[1]) for name in moved} - set(left))
    if args.json:
        print_json({"archived": days, "written": written, "left": left})
    else:
        lines = [*(f"archived {day}" for day in days), *(f"wrote {path}, and dropped it here" for path in written)]
        lines += [f"left {day}: something that waits, or died lately, needs it, or somebody reads it" for day in left]
        print("\n".join(lines) or "Nothing to archive.")
    return 0


def _left(conn: Connection[TupleRow], *, older_than: int) -> list[str]:
    """The days that are old enough and still in place, but those that were brought back."""
    limit = datetime.now(UTC).date() - timedelta(days=max(older_than, DAYS_BEHIND))
    return sorted({str(one.day) for one in existing(conn) if one.day < limit and one.stays_until is None})


def _put(conn: Connection[TupleRow], day: date, *, written: Path | None) -> list[str]:
    """Archive a day; nothing is left to do where an earlier run has written it to files and dropped it."""
    try:
        return archive.put(conn, day)
    except NotFound:
        if written is None:
            raise
        archive_files.read(written, day)
        return []


def _to_write(conn: Connection[TupleRow], args: argparse.Namespace) -> Iterable[Day]:
    """The days of the archive to write, but none of which a part is still in place because somebody reads it."""
    if args.to_file is None:
        return []
    here = {one.day for one in existing(conn)}
    if args.days:
        return [one for one in archive.list_(conn) if one.day in args.days]
    limit = datetime.now(UTC).date() - timedelta(days=args.older_than)
    return [one for one in archive.list_(conn) if one.day < limit and one.day not in here]


def run_restore(args: argparse.Namespace) -> int:
    """Bring a day back and print until when it stays."""
    until = datetime.now(UTC) + timedelta(days=args.keep)
    with _connection() as conn:
        if args.from_file is not None:
            archive_files.load(conn, args.day, args.from_file)
        restored = archive.restore(conn, args.day, until=until)
    if args.json:
        print_json({"day": str(args.day), "restored": restored, "until": iso(until)})
    else:
        print(f"{args.day} is back, and stays until {iso(until)}.")
    return 0


def run_drop(args: argparse.Namespace) -> int:
    """Delete a day from the archive and print what it was."""
    with _connection() as conn:
        dropped = archive.drop(conn, args.day)
    print_json({"dropped": _as_json(dropped)}) if args.json else print(f"dropped {args.day}: {dropped.bytes:,} bytes")
    return 0


@contextmanager
def _connection() -> Iterator[Connection[TupleRow]]:
    """A connection for this command; a database without Relay's tables is told of in a sentence."""
    url = read_settings(with_stand_ins(command_environment(), _NOT_NEEDED)).database_url
    try:
        with connect(url) as conn:
            yield conn
    except psycopg.errors.UndefinedTable as cause:
        raise Unavailable("The database is older than this Relay; run `relay migrate` first.") from cause


def _as_json(one: Day) -> dict[str, object]:
    return {"day": str(one.day), "bytes": one.bytes, "tables": list(one.tables)}
