"""`relay stats`: how much waits, moves and is done."""

from __future__ import annotations

import argparse
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from relay.cli.api_client import add_connection, connect
from relay.cli.terminal import Paint, print_json, relative, span, table

QUEUE_STATS = """query Stats {
  queueStats { pending queued ready held delayed delivering failed delivered dead cancelled oldestAgeSeconds asOf }
}"""

_MEANING = {
    "pending": "accepted and not final",
    "queued": "nothing tried yet",
    "delivering": "on the wire now",
    "failed": "will be tried again",
    "ready": "could be sent now",
    "held": "due, but its endpoint is paused, failing or busy",
    "delayed": "waiting for its time",
    "delivered": "arrived",
    "dead": "given up, and settled by nobody",
    "cancelled": "taken back",
}
_INSIDE_PENDING = ("queued", "delivering", "failed", "ready", "held", "delayed")
_WATCH_S = 2.0
_EXAMPLES = """examples:
  relay stats
  relay stats --watch
  relay stats --json
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "stats",
        help="show how much waits, moves and is done",
        description="Shows the counts of your client's deliveries; an operator's key sees those of all.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--watch", action="store_true", help=f"again every {_WATCH_S:.0f} s, until Ctrl-C")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    add_connection(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the counts, once or again and again."""
    client, clear = connect(args), args.watch and sys.stdout.isatty()
    try:
        while True:
            stats: dict[str, Any] = client.graphql(QUEUE_STATS)["queueStats"]
            if args.json:
                print_json(stats)
            else:
                print(("\x1b[H\x1b[2J" if clear else "") + page(stats, now=datetime.now(UTC)), flush=True)
            if not args.watch:
                return 0
            time.sleep(_WATCH_S)
    except KeyboardInterrupt:
        return 0


def page(stats: dict[str, Any], *, now: datetime, paint: Paint | None = None) -> str:
    """Return the counts as a table with what each means."""
    paint = paint or Paint(sys.stdout)
    rows = [
        ("  " * (name in _INSIDE_PENDING) + name, f"{stats[name]:,}", meaning) for name, meaning in _MEANING.items()
    ]
    numbers = table([row[:2] for row in rows])
    lines = [f"{line}   {paint(meaning, 'dim')}" for line, (_, _, meaning) in zip(numbers, rows, strict=True)]
    if stats["oldestAgeSeconds"] > 0:
        lines.append(f"The oldest that is ready has waited {span(timedelta(seconds=stats['oldestAgeSeconds']))}.")
    lines.append(paint(f"Counted {relative(min(now, datetime.fromisoformat(stats['asOf'])), now=now)}.", "dim"))
    return "\n".join(lines)
