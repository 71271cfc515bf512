"""`relay send`: hand one event to a running Relay, its payload byte for byte as given."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import msgspec

from relay.cli.api_client import add_connection, connect
from relay.cli.terminal import print_json

_EXAMPLES = """examples:
  relay send order.paid --data '{"id": 17}'
  relay send order.paid --data @order.json --idempotency-key order-17
  curl -s https://example.com/order.json | relay send order.paid --data -
  relay send --to http://127.0.0.1:9000/hook --data '{"id": 17}' --delay 60
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "send",
        help="send one event",
        description="Sends one event to every endpoint subscribed to its type, or to one URL with --to.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("type", nargs="?", metavar="TYPE", help="event type, like order.paid; none with --to")
    parser.add_argument(
        "--data", type=payload, default=b"{}", metavar="JSON", help="payload: JSON, @FILE, or - for stdin (default {})"
    )
    parser.add_argument("--to", metavar="URL", help="send to this URL alone, whatever is subscribed")
    parser.add_argument("--idempotency-key", metavar="K", help="a repeat with the same key within 24 h is no new event")
    parser.add_argument("--priority", type=int, metavar="N", help="1 (first) to 10; default 5")
    parser.add_argument("--delay", type=int, metavar="S", help="send this many seconds from now")
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")
    add_connection(parser)
    parser.set_defaults(run=run, usage_error=parser.error)


def run(args: argparse.Namespace) -> int:
    """Send the event and say how to follow it."""
    if (args.type is None) == (args.to is None):
        args.usage_error("give an event type or --to URL, one of the two")
    fields = {"eventType": args.type, "destination": args.to, "priority": args.priority, "delaySeconds": args.delay}
    answer, known = connect(args).post_event(body(fields, args.data), idempotency_key=args.idempotency_key)
    if args.json:
        print_json({**answer, "duplicate": known})
    elif known:
        print(f"Known already: this idempotency key belongs to event {answer['id']}. Nothing new was sent.")
    else:
        print(f"Accepted as event {answer['id']}. What becomes of it: relay why {answer['id']}")
    return 0


def payload(text: str) -> bytes:
    """Return the payload that --data names, or tell argparse why it is none."""
    try:
        if text == "-":
            raw = sys.stdin.buffer.read()
        else:
            raw = Path(text[1:]).read_bytes() if text.startswith("@") else text.encode()
        msgspec.json.decode(raw, type=msgspec.Raw)
    except OSError as cause:
        raise argparse.ArgumentTypeError(f"{text[1:]} cannot be read ({cause.strerror})") from cause
    except (ValueError, RecursionError) as cause:
        raise argparse.ArgumentTypeError(f"that is no JSON ({cause})") from cause
    return raw.strip()


def body(fields: dict[str, str | int | None], data: bytes) -> bytes:
    """Return the request's body: the payload's bytes untouched beside the fields that are set."""
    members = [json.dumps({name: value})[1:-1].encode() for name, value in fields.items() if value is not None]
    return b"{" + b",".join([*members, b'"payload":' + data]) + b"}"
