"""`relay logs`: what becomes of deliveries, the last ones, or all as they are recorded."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlencode

import msgspec

from relay.cli.api_client import Client, add_connection, connect
from relay.cli.terminal import Paint, buffer_by_line, plain, print_json
from relay.errors import Invalid, Unavailable
from relay.feed.lines import LEVELS, STATUSES, Line, level_of, wanted

_LAST = """query Last($first: Int!) {
  deliveries(first: $first) {
    nodes {
      id status attempts nextAttemptAt
      event { id eventType }
      endpoint { id }
      deliveryAttempts { attemptNumber attemptedAt statusCode reason durationMs }
    }
  }
}"""
_COLOUR_OF = {"delivered": "green", "retry": "yellow", "dead": "red", "circuit_open": "red", "circuit_closed": "green"}
#: A stream says something every 15 s.
_SILENCE_S = 45.0
_AGAIN_S = 1.0
_FILTERS = ("type", "endpoint", "status", "level")
_MOST = 100
_EXAMPLES = """examples:
  relay logs
  relay logs -f --status retry,dead
  relay logs -f --type 'order.*' --json
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "logs",
        help="show what becomes of deliveries, live with -f",
        description="Shows the attempts of your client's newest deliveries, or with -f all that happens from now on.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what happens, until Ctrl-C")
    parser.add_argument(
        "--type", default="", metavar="TYPES", help="event types, exact or order.*; several with commas"
    )
    parser.add_argument("--endpoint", default="", metavar="IDS", help="endpoints; several with commas")
    parser.add_argument("--status", default="", metavar="STATUSES", help=f"several with commas: {', '.join(STATUSES)}")
    parser.add_argument("--level", default="", choices=LEVELS, help="the least level")
    parser.add_argument(
        "--limit", type=int, default=20, metavar="N", help="without -f: so many lines; 20 when not given"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    add_connection(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print lines until there are no more, or until Ctrl-C."""
    if not 1 <= args.limit <= _MOST:
        raise Invalid(f"--limit must be between 1 and {_MOST}.")
    buffer_by_line()
    client, filters = connect(args), {name: getattr(args, name) for name in _FILTERS if getattr(args, name)}
    lines = _follow(client, filters) if args.follow else _last(client, filters, limit=args.limit)
    paint = Paint(sys.stdout)
    try:
        for line in lines:
            print_json(line) if args.json else print(sentence(line, paint=paint), flush=True)
    except KeyboardInterrupt:
        pass
    return 0


def sentence(line: dict[str, Any], *, paint: Paint) -> str:
    """One line for a person: when, what, of which event, to where."""
    status = paint(f"{line['status']:<14}", _COLOUR_OF.get(line["status"], "dim"))
    told = [f"attempt {line['attempt']}"] if line.get("attempt") else []
    told += [str(line["status_code"])] if line.get("status_code") else []
    told += [f"{line['duration_ms']:.0f} ms"] if line.get("duration_ms") is not None else []
    told += [line["reason"]] if line.get("reason", "ok") != "ok" else []
    told += [f"again in {line['retry_in_s']:.0f} s"] if line.get("retry_in_s") is not None else []
    about = [f"{name} {line[f'{name}_id']}" for name in ("event", "endpoint") if line.get(f"{name}_id")]
    when = paint(line["at"][11:23], "dim")
    return f"{when} {status} {plain(line.get('event_type') or '-')}  {', '.join(told)}  {paint(' '.join(about), 'dim')}"


def _follow(client: Client, filters: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Every line from now on; a stream that ends is begun again where it ended."""
    last: str | None = None
    while True:
        try:
            headers = {} if last is None else {"Last-Event-ID": last}
            with client.stream(f"/logs/stream?{urlencode(filters)}", silence_s=_SILENCE_S, headers=headers) as chunks:
                for event in events(chunks):
                    if last is None:
                        sys.stderr.write("Watching; Ctrl-C ends it.\n")
                    last = event.get("id", last)
                    if event.get("event") == "gap":
                        sys.stderr.write("relay: lines are missing here; `relay logs` shows the newest deliveries\n")
                    elif "data" in event:
                        yield json.loads(event["data"])
        except Unavailable:
            if last is None:
                raise
        time.sleep(_AGAIN_S)


def events(chunks: Iterable[bytes]) -> Iterator[dict[str, str]]:
    """The fields of each Server-Sent Event; comments have none."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n\n")
        for text in whole:
            pairs = [line.partition(": ") for line in text.decode().splitlines()]
            yield {name: value for name, _, value in pairs if name}


def _last(client: Client, filters: dict[str, str], *, limit: int) -> list[dict[str, Any]]:
    """The last attempts of the newest deliveries, oldest first."""
    asked = wanted(**filters)
    found = client.graphql(_LAST, {"first": _MOST})["deliveries"]["nodes"]
    lines = sorted((line for delivery in found for line in _lines_of(delivery)), key=lambda line: line["at"])
    return [line for line in lines if asked.takes(_as_line(line))][-limit:]


def _lines_of(delivery: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for attempt in delivery["deliveryAttempts"]:
        is_last = attempt["attemptNumber"] == delivery["attempts"]
        status = _status(delivery["status"] if is_last else "FAILED", attempt["reason"])
        line = {
            "at": attempt["attemptedAt"],
            "level": level_of(status),
            "status": status,
            "event_type": delivery["event"]["eventType"],
            "event_id": delivery["event"]["id"],
            "delivery_id": delivery["id"],
            "endpoint_id": delivery["endpoint"]["id"] if delivery["endpoint"] else None,
            "reason": attempt["reason"].lower(),
            "attempt": attempt["attemptNumber"],
            "status_code": attempt["statusCode"],
            "duration_ms": attempt["durationMs"],
        }
        yield {name: value for name, value in line.items() if value is not None}


def _status(status: str, reason: str) -> str:
    """What became of the delivery by an attempt; one that is under way again was to be retried."""
    if reason == "OK":
        return "delivered"
    return {"DEAD": "dead", "CANCELLED": "cancelled"}.get(status, "retry")


def _as_line(line: dict[str, Any]) -> Line:
    nil = "00000000-0000-0000-0000-000000000000"
    return msgspec.convert({"tenant_id": nil, "endpoint_id": nil, **line}, Line)
