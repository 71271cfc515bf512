"""`relay demo`: four endpoints of different health, some traffic, and a table of what became of it."""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from relay.cli import own_endpoint
from relay.cli.api_client import Client, add_connection, connect
from relay.cli.demo_endpoints import Role, serve
from relay.cli.interrupts import on_interrupt
from relay.cli.terminal import Paint, buffer_by_line, print_json, table

_SEND = "mutation Demo($inputs: [SendEventInput!]!) { sendEvents(inputs: $inputs) { event { id } error { message } } }"
_COUNTS = """query Counts($id: ID!) {
  delivered: deliveries(filter: {endpointId: $id, status: DELIVERED}, first: 1) { totalCount }
  queued: deliveries(filter: {endpointId: $id, status: QUEUED}, first: 1) { totalCount }
  delivering: deliveries(filter: {endpointId: $id, status: DELIVERING}, first: 1) { totalCount }
  failed: deliveries(filter: {endpointId: $id, status: FAILED}, first: 1) { totalCount }
  dead: deliveries(filter: {endpointId: $id, status: DEAD}, first: 1) { totalCount nodes { event { id } } }
  cancelled: deliveries(filter: {endpointId: $id, status: CANCELLED}, first: 1) { totalCount }
}"""
_STATUSES = ("delivered", "queued", "delivering", "failed", "dead", "cancelled")
_OPEN = ("queued", "delivering", "failed")
_TYPES = ("demo.order.created", "demo.order.paid", "demo.invoice.sent", "demo.user.joined")
_COUNTED = 10_000  # beyond it Relay gives no exact count
_EVERY_S = 0.25
_CALM_S = 15.0
_EXAMPLES = """examples:
  relay demo
  relay demo --seconds 10
  relay demo --keep          leaves the endpoints for you to look at
"""


@dataclass(frozen=True, slots=True)
class Counts:
    """The deliveries to one of the demo's endpoints, by status, and the requests that it saw itself."""

    role: str
    by_status: dict[str, int]
    requests: int
    example: str | None

    @property
    def open(self) -> int:
        """How many are not final."""
        return sum(self.by_status[status] for status in _OPEN)


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "demo",
        help="fill a running Relay with endpoints and traffic",
        description="Serves a healthy, a flaky and a slow endpoint and names a dead one, sends events of several\n"
        "types (demo.*) and shows what became of them. The endpoints are taken away at the end.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=_seconds, default=30, help="how long to send (default 30)")
    parser.add_argument("--keep", action="store_true", help="leave the endpoints there at the end")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON at the end")
    add_connection(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the demo; interrupted, it stops sending and sums up."""
    buffer_by_line()
    client, paint = connect(args), Paint(sys.stdout)
    told: SimpleQueue[None] = SimpleQueue()
    with on_interrupt(lambda: told.put(None)), serve() as roles, _endpoints(client, roles, keep=args.keep) as ids:
        progress = sys.stderr if args.json else sys.stdout
        for role in roles:
            print(f"{paint(role.name.ljust(8), 'bold')}{role.url}  {role.description}", file=progress)
        print(f"Sending for {args.seconds} s; Ctrl-C sums up at once.", file=progress, flush=True)
        sent = _send(client, told, seconds=args.seconds)
        print(f"{sent} events sent; waiting for what is still on its way.", file=progress, flush=True)
        counts = _calm(client, told, [(role, ids[role.name]) for role in roles])
        if args.json:
            shown = {count.role: {**count.by_status, "requests": count.requests} for count in counts}
            print_json({"sent": sent, "endpoints": shown})
        else:
            print(summary(counts))
    return 0


def summary(counts: Sequence[Counts]) -> str:
    """Return the table of deliveries by endpoint and status, and what to look at next."""
    rows: list[Sequence[object]] = [("endpoint", *_STATUSES, "requests seen")]
    rows += [(count.role, *(count.by_status[status] for status in _STATUSES), count.requests) for count in counts]
    hints = [f"The story of one event of the {c.role} endpoint: relay why {c.example}" for c in counts if c.example]
    return "\n".join(["", *table(rows), "", *hints])


@contextlib.contextmanager
def _endpoints(client: Client, roles: Sequence[Role], *, keep: object) -> Iterator[dict[str, str]]:
    """Lend an endpoint for each role, as its id by the role's name."""
    ids: dict[str, str] = {}
    try:
        for role in roles:
            ids[role.name] = own_endpoint.create(client, role.fields()).id
        yield ids
    finally:
        for id in () if keep else ids.values():
            own_endpoint.delete(client, id)


def _send(client: Client, told: SimpleQueue[None], *, seconds: float) -> int:
    sent, end = 0, time.monotonic() + seconds
    while time.monotonic() < end and not _was_told(told, within_s=_EVERY_S):
        inputs = [_event(sent + place) for place in range(random.randint(1, 4))]
        results: list[dict[str, Any]] = client.graphql(_SEND, {"inputs": inputs})["sendEvents"]
        sent += sum(result["error"] is None for result in results)
    return sent


def _event(number: int) -> dict[str, Any]:
    payload = {"number": number, "amount": round(random.uniform(1, 500), 2), "currency": "EUR"}
    return {"eventType": random.choice(_TYPES), "payload": payload, "priority": random.choice((2, 5, 5, 5, 9))}


def _calm(client: Client, told: SimpleQueue[None], endpoints: Sequence[tuple[Role, str]]) -> list[Counts]:
    """Wait until nothing is open any more, at most 15 s, and return the counts."""
    end = time.monotonic() + _CALM_S
    while True:
        counts = [_count(client, role, id) for role, id in endpoints]
        if not any(count.open for count in counts) or time.monotonic() > end or _was_told(told, within_s=0.5):
            return counts


def _count(client: Client, role: Role, id: str) -> Counts:
    found = client.graphql(_COUNTS, {"id": id})
    totals = {status: found[status]["totalCount"] for status in _STATUSES}
    by_status = {status: _COUNTED if total is None else total for status, total in totals.items()}
    given_up = [node["event"]["id"] for node in found["dead"]["nodes"]]
    example = next(iter(role.retried() + given_up), None)
    return Counts(role=role.name, by_status=by_status, requests=len(role.arrivals), example=example)


def _was_told(told: SimpleQueue[None], *, within_s: float) -> bool:
    try:
        told.get(timeout=within_s)
    except Empty:
        return False
    return True


def _seconds(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 3600):
        raise argparse.ArgumentTypeError("must be a whole number from 1 to 3600")
    return int(text)
