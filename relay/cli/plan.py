"""`relay plan`: what `relay apply` would change, and what in Relay the file knows nothing of."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from relay.cli import config_file
from relay.cli.api_client import add_connection, connect
from relay.cli.config_changes import make_plan
from relay.cli.config_kinds import served_kinds
from relay.cli.config_page import as_json, page, tell
from relay.cli.terminal import Paint

_EXAMPLES = """examples:
  relay plan -f relay.yaml
  relay plan -f relay.yaml --prune
  relay export | relay plan -f - --json

The exit code is 0 when there is nothing to change, 2 when there is, and 1 when it could not be found out.
"""
_CHANGES = 2


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "plan",
        help="compare a configuration file with Relay; changes nothing",
        description="Compares endpoints and event types in a file with those in Relay, and shows what `relay apply` would do.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_file(parser)
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")
    add_connection(parser)
    # Used wrongly is an error here, too: 2 has another meaning.
    parser.set_defaults(run=run, usage_code=1)


def add_file(parser: argparse.ArgumentParser) -> None:
    """Add -f and --prune."""
    parser.add_argument("-f", "--file", type=Path, required=True, metavar="FILE", help="the file; - is standard input")
    parser.add_argument("--prune", action="store_true", help="delete what a section of the file does not have")


def run(args: argparse.Namespace) -> int:
    """Print the plan; 2 when there is something to do."""
    document, client = config_file.read(args.file), connect(args)
    plan = make_plan(document, served_kinds(client), client, prune=args.prune)
    tell(json.dumps(as_json(plan)) if args.json else page(plan, paint=Paint(sys.stdout)))
    return _CHANGES if plan.changes else 0
