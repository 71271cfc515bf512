"""`relay verify`: read the ledger, and name every record that does not fit the others."""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from datetime import UTC, datetime, timedelta

import psycopg

from relay.cli.environment import command_environment
from relay.cli.terminal import Paint, iso, plain, print_json
from relay.errors import Unavailable
from relay.settings import read_settings
from relay.verify.findings import Found
from relay.verify.ledger import verify

_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
# The ledger is all in Postgres.
_NOT_NEEDED = {"REDIS_URL": "redis://not-needed", "SIGNING_KEY": "not needed to compare what is in the database"}
_EXAMPLES = """examples:
  relay verify
  relay verify --since 7d
  relay verify --since 2026-03-01T00:00:00Z --json

The exit code is 0 when everything fits, and 1 when something does not.
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "verify",
        help="compare records that were written independently, and name those that do not fit",
        description="Compares events, deliveries, attempts, lanes and jobs in the database, and names what does not fit.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--since",
        type=moment,
        default=timedelta(days=1),
        metavar="WHEN",
        help="what was made since then: 90m, 24h, 7d or an ISO time (default 24h); at most RETENTION_DAYS back",
    )
    parser.add_argument("--json", action="store_true", help="print what was found as JSON")
    parser.set_defaults(run=run)


def moment(text: str) -> datetime | timedelta:
    """Read `24h`, or a moment in ISO 8601 (UTC where it names no zone)."""
    if found := re.fullmatch(r"(\d{1,6})([mhd])", text):
        return int(found[1]) * _UNITS[found[2]]
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError("must be like 90m, 24h, 7d or 2026-03-01T00:00:00Z") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def run(args: argparse.Namespace) -> int:
    """Print what does not fit; 1 when there is something."""
    since = args.since if isinstance(args.since, datetime) else datetime.now(UTC) - args.since
    try:
        found = asyncio.run(verify(read_settings(_NOT_NEEDED | command_environment()), since=since))
    except psycopg.errors.UndefinedTable as cause:
        raise Unavailable("The database is older than this Relay; run `relay migrate` first.") from cause
    wrong = [one for one in found.values() if one.count]
    if args.json:
        print_json({"since": iso(since), "found": {one.check.value: _as_json(one) for one in wrong}})
    else:
        print(page(wrong, since=since, paint=Paint(sys.stdout)))
    return 1 if wrong else 0


def page(wrong: list[Found], *, since: datetime, paint: Paint) -> str:
    """Return what was found as a person reads it."""
    if not wrong:
        return f"Everything since {iso(since)} fits together."
    lines: list[str] = []
    for found in wrong:
        lines.append(paint(f"{found.check}: {found.count:,}", "red"))
        lines += [f"  {plain(offender.sentence)}" for offender in found.offenders]
        if found.count > len(found.offenders):
            lines.append(f"  and {found.count - len(found.offenders):,} more")
    return "\n".join(lines)


def _as_json(found: Found) -> dict[str, object]:
    listed = [{"ids": offender.ids, "sentence": offender.sentence} for offender in found.offenders]
    return {"count": found.count, "offenders": listed}
