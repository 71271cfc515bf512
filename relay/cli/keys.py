"""`relay keys`: which SIGNING_KEY the stored secrets are under, and moving them to the one that is set now.

Exit codes: 0 all are under SIGNING_KEY, 1 some are not.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import asdict
from typing import Any

from relay.catalog.resealing import Standing, reseal, standings
from relay.catalog.secrets import Vault
from relay.cli.environment import command_environment, with_stand_ins
from relay.cli.terminal import print_json, table
from relay.db import Database
from relay.settings import Settings, read_settings

# The secrets are all in Postgres.
_NO_QUEUE = {"REDIS_URL": "redis://not-needed"}
_EXAMPLES = """examples:
  relay keys status
  relay keys rotate
  relay keys rotate --batch 100
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its two actions."""
    parser = subparsers.add_parser(
        "keys",
        help="move the stored secrets to a new SIGNING_KEY",
        description="Shows under which key the stored secrets are, and moves them from SIGNING_KEY_PREVIOUS to SIGNING_KEY.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    _action(actions, "status", "count the secrets by key; exit code 1 while SIGNING_KEY does not open all", _status)
    rotate = _action(
        actions, "rotate", "encrypt them all with SIGNING_KEY; safe while Relay runs, and to repeat", _rotate
    )
    rotate.add_argument("--batch", type=int, default=500, choices=range(1, 10_001), metavar="N", help="rows at a time")


def _action(
    actions: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    summary: str,
    work: Callable[[argparse.Namespace, Database, Vault], Coroutine[Any, Any, list[Standing]]],
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=summary, description=f"{summary.capitalize()}.")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=lambda args: run(args, work))
    return parser


def run(
    args: argparse.Namespace, work: Callable[[argparse.Namespace, Database, Vault], Coroutine[Any, Any, list[Standing]]]
) -> int:
    """Do it, and print where every table stands then."""
    settings = read_settings(with_stand_ins(command_environment(), _NO_QUEUE))
    found = asyncio.run(_with_database(args, settings, work))
    if args.json:
        print_json([asdict(one) for one in found])
    else:
        head = ("table", "SIGNING_KEY", "SIGNING_KEY_PREVIOUS", "another key")
        rows = [(one.table, one.current, one.previous, one.unknown) for one in found]
        print("\n".join([*table([head, *rows]), "", verdict(found)]))
    return 1 if any(one.left for one in found) else 0


async def _with_database(
    args: argparse.Namespace,
    settings: Settings,
    work: Callable[[argparse.Namespace, Database, Vault], Coroutine[Any, Any, list[Standing]]],
) -> list[Standing]:
    db = Database(settings, connections=1)
    await db.open()
    try:
        return await work(args, db, Vault.of(settings))
    finally:
        await db.close()


async def _status(_args: argparse.Namespace, db: Database, vault: Vault) -> list[Standing]:
    async with db.connection() as conn:
        return await standings(conn, vault=vault)


async def _rotate(args: argparse.Namespace, db: Database, vault: Vault) -> list[Standing]:
    found = await _status(args, db, vault)
    left, moved = sum(one.previous for one in found), 0
    async for done in reseal(db, vault=vault, batch=args.batch):
        moved += done.moved
        sys.stderr.write(f"{done.table}: {moved:,} of {left:,} moved\n")
    return await _status(args, db, vault)


def verdict(found: Sequence[Standing]) -> str:
    """Say what to do next."""
    if unknown := sum(one.unknown for one in found):
        return (
            f"{unknown:,} secrets are under a key that is neither SIGNING_KEY nor SIGNING_KEY_PREVIOUS: nothing can be signed"
            " with them. Set the key they were stored under as SIGNING_KEY_PREVIOUS."
        )
    if left := sum(one.previous for one in found):
        return f"{left:,} secrets are left: run `relay keys rotate`, and keep SIGNING_KEY_PREVIOUS until then."
    return "All secrets are under SIGNING_KEY: SIGNING_KEY_PREVIOUS is not needed."
