"""`relay migrate`: bring the database's schema up to date."""

from __future__ import annotations

import argparse
import json

from relay.cli.environment import command_environment, with_stand_ins
from relay.db import migrate
from relay.settings import read_settings

_SUMMARY = "bring the database's schema up to date; safe to repeat and to run twice at once"
# A migration needs neither, so a job that only migrates does not have to be given them.
_NOT_NEEDED = {"REDIS_URL": "redis://not-needed", "SIGNING_KEY": "not needed to bring a schema up to date"}


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `relay migrate`."""
    parser = subparsers.add_parser("migrate", help=_SUMMARY, description=_SUMMARY)
    parser.add_argument("--json", action="store_true", help="print what was applied as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Apply what is missing and print its names."""
    applied = migrate(read_settings(with_stand_ins(command_environment(), _NOT_NEEDED)).database_url)
    if arguments.json:
        print(json.dumps({"applied": applied}))
    else:
        print("\n".join(f"applied {name}" for name in applied) or "The schema is up to date.")
    return 0
