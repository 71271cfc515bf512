"""`relay migrate`: bring the database's schema up to date, or wait until somebody has."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import psycopg
from psycopg import AsyncConnection

from relay import log
from relay.cli.environment import command_environment, with_stand_ins
from relay.errors import Unavailable
from relay.migrate import migrate, newest_migration, schema_version
from relay.postgres import conninfo
from relay.settings import read_settings

_SUMMARY = "bring the database's schema up to date; safe to repeat and to run twice at once"
# A migration needs neither, so a job that only migrates does not have to be given them.
_NOT_NEEDED = {"REDIS_URL": "redis://not-needed", "SIGNING_KEY": "not needed to bring a schema up to date"}
_WAIT_S = 300.0
_AGAIN_S = 0.5
_LOG = logging.getLogger(__name__)

T = TypeVar("T")


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `relay migrate`."""
    parser = subparsers.add_parser("migrate", help=_SUMMARY, description=_SUMMARY)
    parser.add_argument(
        "--check", action="store_true", help="apply nothing; exit code 1 if the schema is older than this Relay"
    )
    parser.add_argument(
        "--wait",
        metavar="SECONDS",
        type=float,
        nargs="?",
        const=_WAIT_S,
        default=0.0,
        help=f"wait that long ({_WAIT_S:.0f}) for Postgres to answer and, with --check, for the schema",
    )
    parser.add_argument("--json", action="store_true", help="print what was applied, or found, as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Apply what is missing and print its names; or print whether something is."""
    settings = read_settings(with_stand_ins(command_environment(), _NOT_NEEDED))
    # Whoever runs this wants to see that it goes on, also where the processes only log what is wrong.
    log.configure(settings.model_copy(update={"log_level": "debug" if settings.log_level == "debug" else "info"}))
    if arguments.check:
        return _check(settings.database_url, arguments)
    applied = _patiently(partial(migrate, settings.database_url), wait_s=arguments.wait)
    if arguments.json:
        print(json.dumps({"applied": applied}))
    else:
        print("\n".join(f"applied {name}" for name in applied) or "The schema is up to date.")
    return 0


def _check(database_url: str, arguments: argparse.Namespace) -> int:
    found: dict[str, object] = {"current": False, "schema": None, "needed": newest_migration()}

    def look() -> None:
        version = found["schema"] = asyncio.run(_version(database_url))
        if version < newest_migration():
            raise Unavailable(
                f"The database's schema is at {version}, and this Relay needs {newest_migration()}: `relay migrate`"
                " brings it up to date."
            )
        found["current"] = True

    try:
        _patiently(look, wait_s=arguments.wait)
    finally:
        if arguments.json:
            print(json.dumps(found))
    if not arguments.json:
        print(f"The schema is at {found['schema']}, and this Relay needs {newest_migration()}.")
    return 0


async def _version(database_url: str) -> int:
    async with await AsyncConnection.connect(conninfo(database_url), autocommit=True) as conn:
        return await schema_version(conn)


def _patiently(do: Callable[[], T], *, wait_s: float) -> T:
    """Do it, again and again for that time while Postgres does not answer or the schema is old; tell each reason once."""
    deadline = time.monotonic() + wait_s
    told = ""
    while True:
        try:
            return do()
        except (Unavailable, psycopg.OperationalError) as cause:
            if time.monotonic() >= deadline:
                raise
            reason = str(cause).strip().splitlines()[0]
            if reason != told:
                _LOG.info("waiting for up to %.0f s: %s", deadline - time.monotonic(), reason)
                told = reason
            time.sleep(min(_AGAIN_S, max(deadline - time.monotonic(), 0)))
