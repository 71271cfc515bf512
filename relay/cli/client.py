"""`relay client`: clients made, listed and changed in the database itself.

It needs what `relay apikey` needs.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from relay.catalog.secrets import Vault
from relay.cli.in_database import NO_QUEUE, NOTHING_SEALED, PAGE, all_pages, client_named, environment, on_database
from relay.cli.terminal import iso, print_json, table
from relay.db import Conn
from relay.settings import read_settings
from relay.tenancy import api_keys, audit, tenants
from relay.tenancy.audit import CLI, Change, Subject
from relay.tenancy.scopes import CLIENT_SCOPES
from relay.tenancy.tenants import ClientSpec, Tenant, UnknownEventTypes

_EXAMPLES = """examples:
  relay client create shop
  relay client create shop --unknown-types refuse --rate-limit 200 --json
  relay client list
  relay client update shop --rate-limit 500
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its three actions."""
    parser = subparsers.add_parser(
        "client",
        help="make, list and change clients, in the database itself",
        description="Makes, lists and changes clients (tenants) in the database: DATABASE_URL, or the running `relay up`.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    for name, summary, run in (
        ("create", "make a client with its first key and its secret", _create),
        ("list", "list all clients", _list),
        ("update", "change a client; web processes notice within 5 s", _update),
    ):
        action = actions.add_parser(name, help=summary, description=summary.capitalize() + ".")
        action.add_argument("--json", action="store_true", help="print it as JSON")
        action.set_defaults(run=run)
        if name != "list":
            _add_fields(action)
        if name == "update":
            action.add_argument("--rename", metavar="NAME", help="its new name")


def _add_fields(action: argparse.ArgumentParser) -> None:
    action.add_argument("name", metavar="NAME", help="the client's name")
    action.add_argument(
        "--unknown-types",
        type=UnknownEventTypes,
        choices=list(UnknownEventTypes),
        help="what becomes of events whose type nobody created (a new client: allow)",
    )
    action.add_argument(
        "--rate-limit", type=int, metavar="N", help="requests a second; 0 is CLIENT_RATE_LIMIT_RPS (a new client: 0)"
    )


def _create(args: argparse.Namespace) -> int:
    given = environment(NO_QUEUE)
    spec = ClientSpec(args.name, args.unknown_types, args.rate_limit)

    async def work(conn: Conn) -> tuple[Tenant, str, str]:
        async with conn.transaction():
            tenant, secret = await tenants.create(conn, spec, vault=Vault.of(read_settings(given)))
            first, key = await api_keys.create(conn, tenant.id, name="first", scopes=CLIENT_SCOPES)
            after = {**tenants.audited_fields(tenant), "firstKey": first.prefix}
            entry = Change("createClient", Subject.CLIENT, tenant.id, after=after)
            await audit.write(conn, tenant.id, entry, actor=CLI)
        return tenant, secret, key

    tenant, secret, key = on_database(given, work)
    if args.json:
        print_json({**_as_json(tenant), "key": key, "secret": secret})
        return 0
    print(key)
    print(f"That is the first key of {tenant.name} ({tenant.id}); it cannot be shown again.", file=sys.stderr)
    print(f"The secret that signs what createEvent sends: {secret}", file=sys.stderr)
    return 0


def _list(args: argparse.Namespace) -> int:
    async def work(conn: Conn) -> list[Tenant]:
        return await all_pages(lambda after: tenants.list_(conn, first=PAGE, after=after))

    found = on_database(environment(NOTHING_SEALED), work)
    if args.json:
        print_json([_as_json(tenant) for tenant in found])
        return 0
    rows = [(str(one.id), one.name, one.unknown_event_types, str(one.rate_limit_per_sec or "-")) for one in found]
    print("\n".join(table([("id", "name", "unknown types", "requests/s"), *rows], left=3)))
    return 0


def _update(args: argparse.Namespace) -> int:
    spec = ClientSpec(args.rename, args.unknown_types, args.rate_limit)

    async def work(conn: Conn) -> Tenant:
        id = (await client_named(conn, args.name)).id
        async with conn.transaction():
            before = tenants.audited_fields(await tenants.get_locked(conn, id))
            changed = await tenants.update(conn, id, spec)
            entry = Change("updateClient", Subject.CLIENT, id, before, tenants.audited_fields(changed))
            await audit.write(conn, id, entry, actor=CLI)
        return changed

    tenant = on_database(environment(NOTHING_SEALED), work)
    if args.json:
        print_json(_as_json(tenant))
    else:
        rate = f"{tenant.rate_limit_per_sec} requests a second" if tenant.rate_limit_per_sec else "the usual rate"
        print(f"{tenant.name}: unknown types {tenant.unknown_event_types}, {rate}.")
    return 0


def _as_json(tenant: Tenant) -> dict[str, Any]:
    return {
        "id": str(tenant.id),
        "name": tenant.name,
        "unknownEventTypes": tenant.unknown_event_types.upper(),
        "rateLimitPerSec": tenant.rate_limit_per_sec,
        "createdAt": iso(tenant.created_at),
    }
