"""`relay schema`: the GraphQL schema as a running Relay serves it."""

from __future__ import annotations

import argparse
from pathlib import Path

from relay.cli.api_client import add_connection, connect
from relay.cli.terminal import print_or_write

_EXAMPLES = """examples:
  relay schema
  relay schema --out docs/schema.graphql
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "schema",
        help="print the GraphQL schema",
        description="Prints the GraphQL schema (SDL) that the running Relay serves.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write it there instead")
    add_connection(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Fetch the schema and print or write it."""
    sdl = connect(args).text("/graphql/schema").rstrip("\n") + "\n"
    print_or_write(sdl, args.out)
    return 0
