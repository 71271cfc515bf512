"""`relay apply`: make Relay be as the file says. Done twice, the second time changes nothing."""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

from relay.cli import config_file
from relay.cli.api_client import Client, add_connection, connect
from relay.cli.config_changes import Action, Change, create_input, late_input, make_plan, update_input
from relay.cli.config_kinds import served_kinds
from relay.cli.config_page import page, tell
from relay.cli.config_requests import ask
from relay.cli.plan import add_file
from relay.cli.terminal import Paint, plain
from relay.errors import Invalid, RelayError

_EXAMPLES = """examples:
  relay apply -f relay.yaml
  relay apply -f relay.yaml --prune
  relay apply -f relay.yaml --secrets-to new-secrets.jsonl
  relay apply -f relay.yaml --send-secrets

The exit code is 0 when Relay is as the file says, and 1 when it is not.
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "apply",
        help="make Relay be as a configuration file says",
        description="Shows what `relay plan` shows, and does it.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_file(parser)
    parser.add_argument(
        "--send-secrets", action="store_true", help="also send secrets that Relay has, for they may differ"
    )
    parser.add_argument(
        "--secrets-to",
        type=Path,
        metavar="FILE",
        help="append the secrets of new endpoints to this file, a JSON object a line",
    )
    add_connection(parser)
    parser.set_defaults(run=run, usage_code=1)


def run(args: argparse.Namespace) -> int:
    """Print the plan and carry it out; what fails is one sentence that says how far it came."""
    document, client = config_file.read(args.file), connect(args)
    plan = make_plan(document, served_kinds(client), client, prune=args.prune, resend=args.send_secrets)
    tell(page(plan, paint=Paint(sys.stdout)))
    if not plan.changes:
        return 0
    inputs = [_input(change) for change in plan.changes]
    tell("")
    with ExitStack() as stack:
        secrets = stack.enter_context(_opened(args.secrets_to)) if args.secrets_to else None
        for done, (change, input) in enumerate(zip(plan.changes, inputs, strict=True)):
            try:
                tell(plain(_carry_out(client, change, input, secrets)))
            except RelayError as cause:
                so_far = f"{done} of {len(inputs)} changes were made before; apply the file again when that is mended."
                raise type(cause)(f"{change.title}: {cause.message} {so_far}", field=cause.field) from cause
    tell(f"Done: {len(inputs)} changes.")
    return 0


def _input(change: Change) -> dict[str, Any]:
    """What is sent; made for all changes before the first one, for a missing secret must not stop it half-way."""
    if change.action is Action.CREATE:
        assert change.entry is not None
        return create_input(change.entry, change.kind, os.environ)
    return update_input(change, os.environ) if change.action is Action.CHANGE else {}


def _opened(path: Path) -> TextIO:
    try:
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a", encoding="utf-8")
    except OSError as cause:
        raise Invalid(f"--secrets-to: {path} cannot be written ({cause.strerror}).") from cause


def _carry_out(client: Client, change: Change, input: dict[str, Any], secrets: TextIO | None) -> str:
    """Do one thing, and return the line that says so."""
    kind = change.kind
    if change.found is None:
        return _create(client, change, input, secrets)
    if change.action is Action.DELETE:
        ask(client, kind.delete_mutation, {"id": change.found.id})
        return f"deleted {change.title}"
    ask(client, kind.update_mutation, {"id": change.found.id, "input": input})
    return f"changed {change.title}"


def _create(client: Client, change: Change, input: dict[str, Any], secrets: TextIO | None) -> str:
    kind, entry = change.kind, change.entry
    assert entry is not None
    made = ask(client, kind.create_mutation, {"input": input})["made"]
    id, secret = made.get("endpoint", made)["id"], made.get("secret")
    told = _keep(secret, id, entry.name(kind), secrets) if secret and "secret" not in entry.sealed else ""
    if late := late_input(entry, kind):
        ask(client, kind.update_mutation, {"id": id, "input": late})
    return f"created {change.title} ({id}){told}"


def _keep(secret: str, id: str, url: str, secrets: TextIO | None) -> str:
    """Write down a secret that Relay made, or return why nobody sees it."""
    if secrets is None:
        return "; Relay made its secret, which is not shown here: rotateEndpointSecret makes one you can see"
    secrets.write(json.dumps({"url": url, "id": id, "secret": secret}) + "\n")
    secrets.flush()
    return ""
