"""`relay listen`: an endpoint of your own in the terminal; shows each delivery and whether its signatures hold."""

from __future__ import annotations

import argparse
import contextlib
import sys
from queue import SimpleQueue

from relay.cli import arrivals, own_endpoint
from relay.cli.api_client import add_connection, connect
from relay.cli.interrupts import on_interrupt
from relay.cli.terminal import Paint, buffer_by_line, print_json
from relay.receiver import Arrival, Receiver

_BEHIND = 50
_EXAMPLES = """examples:
  relay listen
  relay listen --types 'order.*,invoice.paid'
  relay listen --status 503          every delivery fails and is tried again
  relay listen --count 1 --json      for scripts
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "listen",
        help="receive deliveries here and show them",
        description="Serves on a free loopback port, makes an endpoint that points at it, and prints each delivery\n"
        "with its signatures checked. Ctrl-C takes the endpoint away again.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--types", type=_patterns, default=["*"], metavar="PATTERNS", help="event types, with commas (default *)"
    )
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1 (default: a free one)")
    parser.add_argument("--status", type=_status, default=200, help="what to answer (default 200)")
    parser.add_argument("--count", type=int, metavar="N", help="stop after N deliveries")
    parser.add_argument(
        "--json", action="store_true", help="one JSON object per delivery (eventType is null in a burst)"
    )
    add_connection(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Receive and print until --count deliveries came or somebody interrupts; always take the endpoint away."""
    buffer_by_line()
    client = connect(args)
    inbox: SimpleQueue[Arrival | None] = SimpleQueue()
    receiver = Receiver(reply=lambda _: args.status, seen=inbox.put, port=args.port)
    fields = {"url": receiver.url, "eventTypes": args.types, "description": "relay listen"}
    receiver.start()
    with (
        contextlib.closing(receiver),
        on_interrupt(lambda: inbox.put(None)),
        own_endpoint.lent(client, fields) as endpoint,
    ):
        ready = f"Listening on {receiver.url} for {', '.join(args.types)}, as endpoint {endpoint.id}. Ctrl-C ends it."
        print(ready, file=sys.stderr if args.json else sys.stdout, flush=True)
        types, paint, shown = arrivals.EventTypes(client), Paint(sys.stdout), 0
        while shown != args.count and (arrival := inbox.get()) is not None:
            event_type = types.known(arrival) if inbox.qsize() > _BEHIND else types.of(arrival)
            seen = arrivals.check(arrival, secret=endpoint.secret, event_type=event_type, answered=args.status)
            if args.json:
                print_json(arrivals.as_json(seen))
            else:
                print(arrivals.page(seen, paint=paint))
            shown += 1
    return 0


def _patterns(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _status(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 200 <= int(text) <= 599):
        raise argparse.ArgumentTypeError("must be a status from 200 to 599")
    return int(text)
