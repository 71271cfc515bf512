"""`relay why`: what became of an event, as a page a person understands."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime

from relay.cli import story
from relay.cli.api_client import add_connection, connect
from relay.cli.terminal import Paint, print_json
from relay.errors import NotFound

_WHY = """query Why($id: ID!) {
  event(id: $id) {
    id eventType status createdAt scheduledAt priority idempotencyKey contentType destination payload
  }
  deliveries(filter: {eventId: $id}, first: 100) {
    pageInfo { hasNextPage }
    nodes {
      id destination status reason attempts maxAttempts createdAt nextAttemptAt deliveredAt
      endpoint { id description }
      deliveryAttempts {
        attemptNumber attemptedAt statusCode reason error durationMs responseBody responseBodyTruncated
      }
    }
  }
  explainEvent(id: $id, first: 100) {
    matched why clause found recorded changedSince
    endpoint { id url description eventTypes createdAt updatedAt }
  }
}"""
_EXAMPLES = """examples:
  relay why 019c3f5e-8a51-7c30-9d55-0a1b2c3d4e5f
  relay why 019c3f5e-8a51-7c30-9d55-0a1b2c3d4e5f --json
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "why",
        help="explain what became of an event",
        description="Tells who got the event and who did not, each attempt with its answer, and what happens next.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("event_id", metavar="EVENT_ID", help="the id that sending it returned (header webhook-id)")
    parser.add_argument("--json", action="store_true", help="print everything known as JSON")
    add_connection(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Ask for the event and print its story; `NotFound` where there is no such event for this key."""
    found = connect(args).graphql(_WHY, {"id": args.event_id})
    if found["event"] is None:
        raise NotFound(f"There is no event {args.event_id}, or it belongs to another client.")
    if args.json:
        print_json(found)
    else:
        print(story.tell(found, now=datetime.now(UTC), paint=Paint(sys.stdout)))
    return 0
