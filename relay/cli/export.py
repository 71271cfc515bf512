"""`relay export`: what Relay has, as a file that `relay plan` finds no difference in."""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from relay.cli import config_file, config_secrets
from relay.cli.api_client import add_connection, connect
from relay.cli.config_changes import Found, list_found
from relay.cli.config_entries import RETRIES, VERSION, retries, same
from relay.cli.config_kinds import Kind, served_kinds
from relay.cli.terminal import print_or_write

_EXAMPLES = """examples:
  relay export
  relay export --out relay.yaml
  relay export --ids
"""
_BY_USER = "CANCELLED_BY_USER"


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "export",
        help="print endpoints and event types as a configuration file",
        description="Prints what Relay has as a file for `relay plan` and `relay apply`; in place of each secret is the name"
        " of an environment variable.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write it there instead")
    parser.add_argument("--ids", action="store_true", help="name endpoints by their ids, so that their URLs can change")
    add_connection(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Read what Relay has, and print or write the file."""
    client = connect(args)
    found = [(kind, list_found(client, kind)) for kind in served_kinds(client)]
    text = config_file.write(document(found, ids=args.ids))
    print_or_write(text, args.out)
    return 0


def document(found: Iterable[tuple[Kind, Sequence[Found]]], *, ids: bool) -> dict[str, Any]:
    """Return the file's content: sorted, what has its default left out, alike endpoints with their ids."""
    whole: dict[str, Any] = {"version": VERSION}
    for kind, things in found:
        names = Counter(_identity(one, kind) for one in things)
        prefixes: Counter[str] = Counter()
        entries: list[dict[str, Any]] = []
        for one in sorted(things, key=lambda one, kind=kind: (_identity(one, kind), one.id)):
            with_id = kind.label is not None and (ids or names[_identity(one, kind)] > 1)
            entry = ({"id": one.id} if with_id else {}) | fields(one.node, kind)
            if kind.sealed:
                entry |= config_secrets.placeholders(one.node, prefix=_prefix(one.node["url"], prefixes))
            entries.append(entry)
        whole[kind.section] = entries
    return whole


def _identity(found: Found, kind: Kind) -> tuple[str, str]:
    return found.node[kind.key], (found.node[kind.label] or "") if kind.label else ""


def _prefix(url: str, used: Counter[str]) -> str:
    """The beginning of the names of an endpoint's variables: its host, and a number where that is not enough."""
    word = re.sub(r"[^A-Z0-9]+", "_", (urlsplit(url).hostname or "").upper()).strip("_")
    word = f"RELAY_{word}"
    used[word] += 1
    return word if used[word] == 1 else f"{word}_{used[word]}"


def fields(node: Mapping[str, Any], kind: Kind) -> dict[str, Any]:
    """Return the fields that a file must give to make this of it."""
    given = {
        name: node[name]
        for name, field in kind.fields.items()
        if name not in RETRIES and not same(name, node[name], field.default)
    }
    if "status" in given and not (node["status"] == "PAUSED" or node["disabledReason"] == _BY_USER):
        del given["status"]
    return given | (_retries(node) if RETRIES.keys() <= kind.fields.keys() else {})


def _retries(node: Mapping[str, Any]) -> dict[str, Any]:
    plain = retries({})
    if node["retrySchedule"] is None:
        given = {name: node[name] for name in RETRIES if name not in ("retrySchedule", "maxRetries")}
    elif node["retrySchedule"] != plain["retrySchedule"]:
        given = {"retrySchedule": node["retrySchedule"]}
    else:
        given = {}
    if retries(given)["maxRetries"] != node["maxRetries"]:
        given["maxRetries"] = node["maxRetries"]
    return given
