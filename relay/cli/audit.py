"""`relay audit`: who changed what, the newest first."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from relay.cli.api_client import Client, add_connection, connect
from relay.cli.terminal import Paint, plain, print_json
from relay.errors import Invalid

_AUDIT = """query Audit($filter: AuditFilter, $first: Int, $after: String) {
  auditLog(filter: $filter, first: $first, after: $after) {
    nodes { id at actor action subjectType subjectId before after ip requestId }
    pageInfo { hasNextPage endCursor }
  }
}"""
_FILTERS = {"since": "since", "until": "until", "actor": "actor", "action": "action", "subject": "subjectId"}
_PAGE = 100
_MOST = 10_000
_EXAMPLES = """examples:
  relay audit
  relay audit --action updateEndpoint --since 2026-01-01T00:00:00Z
  relay audit --actor cli --json
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "audit",
        help="show who changed what",
        description="Shows the audit log of your client, the newest first; an operator's key sees that of all.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--since", metavar="TIME", help="not before, as 2026-01-01T00:00:00Z")
    parser.add_argument("--until", metavar="TIME", help="before")
    parser.add_argument("--actor", metavar="KEY", help="a key's id or name, or cli")
    parser.add_argument("--action", metavar="MUTATION", help="what was done, as updateEndpoint")
    parser.add_argument("--subject", metavar="ID", help="what was changed")
    parser.add_argument("--limit", type=int, default=20, metavar="N", help="so many entries; 20 when not given")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    add_connection(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print entries, the newest first."""
    if not 1 <= args.limit <= _MOST:
        raise Invalid("--limit must be between 1 and 10 000.")
    wanted = {name: getattr(args, option) for option, name in _FILTERS.items() if getattr(args, option)}
    paint = Paint(sys.stdout)
    for entry in _entries(connect(args), wanted, limit=args.limit):
        print_json(entry) if args.json else print(sentence(entry, paint=paint))
    return 0


def _entries(client: Client, wanted: dict[str, str], *, limit: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    after: str | None = None
    while len(found) < limit:
        size = min(_PAGE, limit - len(found))
        page = client.graphql(_AUDIT, {"filter": wanted, "first": size, "after": after})["auditLog"]
        found += page["nodes"]
        if not page["pageInfo"]["hasNextPage"]:
            break
        after = page["pageInfo"]["endCursor"]
    return found


def sentence(entry: dict[str, Any], *, paint: Paint) -> str:
    """One entry for a person: when, what, of what, by whom, and a line for each field that changed."""
    about = f"{entry['subjectType']} {entry['subjectId'] or ''}".strip()
    origin = f" from {entry['ip']}" if entry["ip"] else ""
    lines = [f"{paint(entry['at'][:19], 'dim')} {entry['action']} {about} by {plain(entry['actor'])}{origin}"]
    before, after = entry["before"] or {}, entry["after"] or {}
    for name in {**before, **after}:
        old, new = (json.dumps(side[name], ensure_ascii=False) if name in side else "-" for side in (before, after))
        lines.append(plain(f"    {name}: {old} -> {new}"))
    return "\n".join(lines)
