"""`relay analytics`: the rollups behind analytics, made again from the attempts."""

from __future__ import annotations

import argparse
import asyncio
from datetime import UTC, date, datetime

from relay.cli.environment import command_environment
from relay.cli.terminal import print_json
from relay.cli.verify import moment
from relay.db import Database
from relay.insight.rollups import rebuild
from relay.settings import Settings, read_settings

_SUMMARY = "make the figures of analytics anew from the attempts that are stored"
# The rollups are all in Postgres.
_NOT_NEEDED = {"REDIS_URL": "redis://not-needed", "SIGNING_KEY": "not needed to count what is in the database"}
_EXAMPLES = """examples:
  relay analytics rebuild
  relay analytics rebuild --since 7d
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its action."""
    parser = subparsers.add_parser(
        "analytics", help="rebuild the figures of analytics", description="Looks after the figures of analytics."
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    action = actions.add_parser(
        "rebuild",
        help=_SUMMARY,
        description=f"{_SUMMARY.capitalize()}, day by day. Safe while Relay runs, to kill, and to repeat.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    action.add_argument(
        "--since",
        type=moment,
        metavar="WHEN",
        help="from that day on: 24h, 7d or an ISO time (default: all days whose attempts are stored)",
    )
    action.add_argument("--json", action="store_true", help="print one JSON object a day")
    action.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Rebuild, and print each day when it is done."""
    since = args.since
    if since is not None and not isinstance(since, datetime):
        since = datetime.now(UTC) - since
    asyncio.run(_rebuild(read_settings(_NOT_NEEDED | command_environment()), since=since, as_json=args.json))
    return 0


async def _rebuild(settings: Settings, *, since: datetime | None, as_json: bool) -> None:
    db = Database(settings, connections=1)
    await db.open()
    try:
        async for day, attempts in rebuild(db, since=since):
            _tell(day, attempts, as_json=as_json)
    finally:
        await db.close()


def _tell(day: date, attempts: int, *, as_json: bool) -> None:
    if as_json:
        print_json({"day": day.isoformat(), "attempts": attempts})
    else:
        print(f"{day}: {attempts:,} attempts", flush=True)
