"""`relay drill`: break a throw-away copy of the system on purpose, under load, and count what it costs."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from collections.abc import Mapping
from pathlib import Path

from relay.drill import report as written
from relay.drill.copy import refuse_real_servers
from relay.drill.faults import FAULTS
from relay.drill.run import Options, Outcome, drill
from relay.drill.self_test import self_test
from relay.up.development import chosen_procfile

_EXAMPLES = """examples:
  relay drill
  relay drill --minutes 30 --json drill.json --junit drill.xml
  relay drill --only "kill all workers" --only "empty Redis"
  relay drill --self-test

It starts Postgres, Redis, two web services and two workers of its own, and refuses to run where servers are set.
The exit code is 0 when nothing was lost, repeated without need or out of order, and every way back was quick enough.
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    summary = "break a throw-away copy of the system under load, and count loss, repeats and breaks of order"
    parser = subparsers.add_parser(
        "drill",
        help=summary,
        description=f"{summary.capitalize()}.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [fault.name for fault in FAULTS]
    parser.add_argument(
        "--minutes", type=_positive, default=3.0, help="begin no new fault after that (default 3); each is done once"
    )
    parser.add_argument(
        "--rate", type=_positive, default=40.0, help="events a second, each to three endpoints (default 40)"
    )
    parser.add_argument(
        "--only", action="append", default=[], choices=names, metavar="FAULT", help=f"one of: {', '.join(names)}"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report as JSON too")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write the report as JUnit XML too")
    parser.add_argument(
        "--self-test", action="store_true", help="lose and swap on purpose, and tell whether that is noticed"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run it to its end; 1 when something is not as it must be."""
    environ = dict(os.environ)
    refuse_real_servers(environ)
    options = Options(chosen_procfile(), minutes=args.minutes, rate=args.rate, only=args.only)
    return _self_test(options, environ) if args.self_test else _drill(args, options, environ)


def _drill(args: argparse.Namespace, options: Options, environ: Mapping[str, str]) -> int:
    print(written.head(), flush=True)

    def told(outcome: Outcome) -> None:
        print(written.line(outcome), flush=True)

    report = asyncio.run(drill(options, environ, told=told))
    print(written.summary(report))
    if args.json:
        args.json.write_text(json.dumps(written.as_json(report), indent=2) + "\n", encoding="utf-8")
    if args.junit:
        args.junit.write_text(written.as_junit(report) + "\n", encoding="utf-8")
    return 1 if report.wrong() else 0


def _self_test(options: Options, environ: Mapping[str, str]) -> int:
    wrong = asyncio.run(self_test(options, environ))
    for sentence in wrong:
        print(f"WRONG: {sentence}")
    if not wrong:
        print("What was swallowed, deleted and swapped on purpose was counted as lost and out of order.")
    return 1 if wrong else 0


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError("must be a number above 0")
    return value
