"""`relay policy simulate`: the attempts that a retry policy leads to, and how long an outage it survives."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from pydantic.alias_generators import to_camel

from relay.catalog.policies import Policy, new_columns
from relay.cli.api_client import add_connection, connect
from relay.cli.terminal import Paint, plain, print_json, span, table
from relay.delivery.retry import JITTER, RetryPolicy
from relay.errors import NotFound

_ENDPOINT = """query Policy($id: ID!) {
  endpoint(id: $id) { id url maxRetries retrySchedule retryBackoffMs retryBackoffMult retryBackoffMax }
}"""
_COLUMNS = ("max_retries", "retry_schedule", "retry_backoff_ms", "retry_backoff_mult", "retry_backoff_max")
_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_LENGTH = re.compile(r"(\d{1,12}(?:\.\d{1,3})?) ?(ms|s|min|m|h|d)", re.ASCII)
_EXAMPLES = """examples:
  relay policy simulate
  relay policy simulate --schedule 1s,5s,30s --max-retries 8
  relay policy simulate --backoff-ms 500 --backoff-mult 3 --backoff-max 3600000
  relay policy simulate 019c3f5e-8a51-7c30-9d55-0a1b2c3d4e5f --max-retries 20
"""


@dataclass(frozen=True, slots=True)
class Step:
    """One attempt, by the ms since the one before it and since the first; what attempts take is not counted."""

    attempt: int
    delay_ms: int
    total_ms: int
    earliest_ms: int
    latest_ms: int


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its action."""
    parser = subparsers.add_parser(
        "policy",
        help="show what a retry policy means",
        description="Shows what a retry policy means before anything has to fail.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    simulate = actions.add_parser(
        "simulate",
        help="every attempt with its time, and how long an outage is survived",
        description="Shows every attempt with its time, and how long an outage is survived: for a new endpoint, or for one"
        " that exists. Options change what it has, and nothing is stored.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    simulate.add_argument("endpoint_id", nargs="?", metavar="ENDPOINT_ID", help="begin with this endpoint's policy")
    simulate.add_argument("--max-retries", type=int, metavar="N", help="0 to 100")
    simulate.add_argument(
        "--schedule", type=schedule, metavar="1s,5s,30s", help="delays (ms, s, m, h, d); the last repeats"
    )
    simulate.add_argument(
        "--backoff-ms", type=int, metavar="MS", help="first delay (default 1000), in place of a schedule"
    )
    simulate.add_argument("--backoff-mult", type=float, metavar="X", help="factor from delay to delay (default 2)")
    simulate.add_argument("--backoff-max", type=int, metavar="MS", help="longest delay (default 86400000)")
    simulate.add_argument("--json", action="store_true", help="print it as JSON")
    add_connection(simulate)
    simulate.set_defaults(run=run, usage_error=simulate.error)


def run(args: argparse.Namespace) -> int:
    """Print the curve; `NotFound` where there is no such endpoint for this key, `Invalid` for what no endpoint may have."""
    backoff = {"backoff_ms": args.backoff_ms, "backoff_mult": args.backoff_mult, "backoff_max": args.backoff_max}
    if args.schedule and any(value is not None for value in backoff.values()):
        args.usage_error("--schedule and the --backoff options exclude each other")
    given = {"max_retries": args.max_retries, "retry_schedule": args.schedule}
    given |= {f"retry_{name}": value for name, value in backoff.items()}
    endpoint = _endpoint(args) if args.endpoint_id else None
    columns = _policy_columns(endpoint, {name: value for name, value in given.items() if value is not None})
    steps = curve(RetryPolicy(*columns.values()))
    if args.json:
        shown = {"endpointId": endpoint and endpoint["id"], **_camel(columns)}
        survives = {"survivesMs": steps[-1].total_ms, "survivesAtLeastMs": steps[-1].earliest_ms}
        print_json({**shown, **survives, "attempts": [_camel(asdict(step)) for step in steps]})
    else:
        name = f"{plain(endpoint['url'])}  {endpoint['id']}" if endpoint else "a new endpoint"
        print(page(steps, name=name, paint=Paint(sys.stdout)))
    return 0


def schedule(text: str) -> list[int]:
    """Return the delays of --schedule in ms, or tell argparse why they are none."""
    lengths = [_LENGTH.fullmatch(part.strip()) for part in text.split(",")]
    if not all(lengths):
        raise argparse.ArgumentTypeError(f"{text!r} must be delays like 500ms,5s,10m,1h,1d")
    return [round(float(length[1]) * _UNITS_MS[length[2]]) for length in lengths if length]


def curve(policy: RetryPolicy) -> list[Step]:
    """Return the attempts of a delivery that never succeeds, as if each failed at once."""
    delays = [0.0, *(policy.delay_ms(attempts) for attempts in range(1, policy.max_retries + 1))]
    totals = [sum(delays[:count]) for count in range(1, len(delays) + 1)]
    return [
        Step(attempt, round(delay), round(total), round(total * (1 - JITTER)), round(total * (1 + JITTER)))
        for attempt, (delay, total) in enumerate(zip(delays, totals, strict=True), start=1)
    ]


def page(steps: Sequence[Step], *, name: str, paint: Paint) -> str:
    """Return the curve as a table, with a sentence on what it survives."""
    head = f"{paint('Retry policy', 'bold')} of {name}"
    if len(steps) == 1:
        return f"{head}\n\nOne attempt and no retry: whatever fails is dead at once."
    rows = [("attempt", "delay", "since the first", f"with ±{JITTER:.0%} jitter"), *map(_row, steps)]
    title, *lines = table(rows, left=0)
    last = steps[-1]
    survives = (
        f"Survives an outage of {paint(_span(last.earliest_ms), 'green')} for certain, of {_span(last.total_ms)} on average."
        f"\nAfter attempt {last.attempt}, {_span(last.latest_ms)} after the first at the latest, a delivery is dead."
        " The time that attempts take comes on top."
    )
    return "\n".join([head, "", paint(title, "dim"), *lines, "", survives])


def _row(step: Step) -> tuple[str, str, str, str]:
    if step.attempt == 1:
        return "1", "", "0 s", ""
    between = f"{_span(step.earliest_ms)} to {_span(step.latest_ms)}"
    return str(step.attempt), _span(step.delay_ms), _span(step.total_ms), between


def _endpoint(args: argparse.Namespace) -> dict[str, Any]:
    endpoint = connect(args).graphql(_ENDPOINT, {"id": args.endpoint_id})["endpoint"]
    if endpoint is None:
        raise NotFound(f"There is no endpoint {args.endpoint_id}, or it belongs to another client.")
    return endpoint


def _policy_columns(endpoint: dict[str, Any] | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of an endpoint's policy after a change, by the rules of createEndpoint and updateEndpoint."""
    known = {name: endpoint[to_camel(name)] for name in _COLUMNS} if endpoint else {"max_retries": None}
    columns = Policy(**given).over({**new_columns(), **known})
    return {name: columns[name] for name in _COLUMNS}


def _camel(values: Mapping[str, Any]) -> dict[str, Any]:
    return {to_camel(name): value for name, value in values.items()}


def _span(length_ms: int) -> str:
    """The jitter of a few seconds shows in their tenths."""
    if 1_000 <= length_ms < 10_000:
        return f"{round(length_ms / 1_000, 1):g} s"
    return span(timedelta(milliseconds=length_ms))
