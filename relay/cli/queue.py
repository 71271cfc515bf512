"""`relay queue`: the hints in Redis, made again from what Postgres knows."""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import asdict

from relay.cli.environment import command_environment
from relay.cli.terminal import print_json
from relay.db import Database
from relay.delivery.rebuild import Rebuilt, rebuild
from relay.queue import Queue
from relay.settings import Settings, read_settings

_SUMMARY = "throw away Relay's messages in Redis and hand out anew what waits in Postgres"
_TIMEOUT_S = 10.0
_NOT_NEEDED = {"SIGNING_KEY": "not needed to rebuild the queues"}


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its action."""
    parser = subparsers.add_parser("queue", help="rebuild the queues in Redis", description="Looks after the queues.")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    action = actions.add_parser(
        "rebuild", help=_SUMMARY, description=f"{_SUMMARY.capitalize()}. Safe while Relay runs, and to repeat."
    )
    action.add_argument("--json", action="store_true", help="print what was done as JSON")
    action.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Rebuild, and print what was done."""
    done = asyncio.run(_rebuild(read_settings(_NOT_NEEDED | command_environment())))
    print_json(asdict(done)) if args.json else print(page(done))
    return 0


async def _rebuild(settings: Settings) -> Rebuilt:
    db = Database(settings, connections=1)
    queue = Queue(settings.redis_url, pool_size=settings.redis_pool_size, timeout_s=_TIMEOUT_S)
    await db.open()
    try:
        return await rebuild(db, queue)
    finally:
        await queue.close()
        await db.close()


def page(done: Rebuilt) -> str:
    """Return what was done as a person reads it."""
    return (
        f"{done.messages:,} messages thrown away\n"
        f"{done.deliveries:,} deliveries and {done.lanes:,} lanes taken back that were handed out and not taken up\n"
        f"{done.rung:,} lanes woken up that would have slept longer\n"
        f"{done.shards:,} of 16 outbox shards rung"
    )
