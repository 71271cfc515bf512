"""`relay apikey`: keys made, listed and revoked in the database itself, for somebody has to be the first.

It needs what the web processes need to reach the database, or the data folder of a running `relay up`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

from relay.catalog.secrets import Vault
from relay.cli.in_database import NO_QUEUE, NOTHING_SEALED, PAGE, all_pages, client_named, on_database
from relay.cli.in_database import environment as command_environment
from relay.cli.terminal import iso, print_json, table
from relay.db import Conn
from relay.settings import read_settings
from relay.tenancy import api_keys, audit, tenants
from relay.tenancy.api_keys import ApiKey
from relay.tenancy.audit import CLI, Change, Subject
from relay.tenancy.scopes import CLIENT_SCOPES, Scope
from relay.tenancy.tenants import Tenant

_EXAMPLES = """examples:
  relay apikey create --tenant shop
  relay apikey create --tenant shop --scopes send --name checkout --json
  relay apikey create --tenant operations --operator
  relay apikey list --tenant shop
  relay apikey revoke --tenant shop 019c3f5e-8a51-7c30-9d55-0a1b2c3d4e5f
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its three actions."""
    parser = subparsers.add_parser(
        "apikey",
        help="make, list and revoke API keys, in the database itself",
        description="Makes, lists and revokes API keys in the database: DATABASE_URL, or the running `relay up`.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    create = _action(actions, "create", "make a key, and the client (tenant) if it is new", _create)
    create.add_argument(
        "--scopes", type=_scopes, default=CLIENT_SCOPES, help="send,read,manage,admin or some of them (default all)"
    )
    create.add_argument("--operator", action="store_true", help="also reach across all clients")
    create.add_argument("--name", default="cli", help="what the key is for (default cli)")
    _action(actions, "list", "list a client's keys", _list)
    revoke = _action(actions, "revoke", "end a key; web processes notice within 5 s", _revoke)
    revoke.add_argument("id", type=UUID, metavar="ID", help="as `relay apikey list` shows it")


def _action(
    actions: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    summary: str,
    run: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=summary, description=summary.capitalize() + ".")
    parser.add_argument("--tenant", required=True, metavar="NAME", help="whose key it is")
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    parser.set_defaults(run=run)
    return parser


def _create(args: argparse.Namespace) -> int:
    environment = command_environment(NO_QUEUE)
    scopes = args.scopes | ({Scope.OPERATOR} if args.operator else set())

    async def work(conn: Conn) -> tuple[Tenant, str | None, str]:
        vault = Vault.of(read_settings(environment))
        async with conn.transaction():
            tenant, secret = await tenants.ensure(conn, args.tenant, vault=vault)
            if secret:
                client = Change("createClient", Subject.CLIENT, tenant.id, after=tenants.audited_fields(tenant))
                await audit.write(conn, tenant.id, client, actor=CLI)
            made, key = await api_keys.create(conn, tenant.id, name=args.name, scopes=scopes)
            entry = Change("createApiKey", Subject.API_KEY, made.id, after=api_keys.audited_fields(made))
            await audit.write(conn, tenant.id, entry, actor=CLI)
        return tenant, secret, key

    tenant, secret, key = on_database(environment, work)
    if args.json:
        made = {"key": key, "tenant": tenant.name, "tenantId": str(tenant.id)}
        print_json(made | ({"secret": secret} if secret else {}))
        return 0
    print(key)
    print(f"That is the key; it cannot be shown again. It belongs to {tenant.name} ({tenant.id}).", file=sys.stderr)
    if secret:
        print(f"The client is new. The secret that signs what createEvent sends: {secret}", file=sys.stderr)
    return 0


def _list(args: argparse.Namespace) -> int:
    async def work(conn: Conn) -> list[ApiKey]:
        tenant = await client_named(conn, args.tenant)
        return await all_pages(lambda after: api_keys.list_(conn, tenant.id, first=PAGE, after=after))

    keys = on_database(command_environment(NOTHING_SEALED), work)
    if args.json:
        print_json([_as_json(key) for key in keys])
        return 0
    rows = [(str(key.id), key.prefix, key.name, ",".join(sorted(key.scopes)), _state(key)) for key in keys]
    print("\n".join(table([("id", "prefix", "name", "scopes", "state"), *rows], left=5)))
    return 0


def _revoke(args: argparse.Namespace) -> int:
    async def work(conn: Conn) -> ApiKey:
        tenant = await client_named(conn, args.tenant)
        async with conn.transaction():
            revoked = await api_keys.revoke(conn, tenant.id, args.id)
            entry = Change("revokeApiKey", Subject.API_KEY, args.id, after={"revokedAt": revoked.revoked_at})
            await audit.write(conn, tenant.id, entry, actor=CLI)
        return revoked

    key = on_database(command_environment(NOTHING_SEALED), work)
    if args.json:
        print_json(_as_json(key))
    else:
        print(f"{key.prefix} ({key.name}) is revoked.")
    return 0


def _state(key: ApiKey) -> str:
    if key.revoked_at:
        return f"revoked {iso(key.revoked_at)}"
    if key.expires_at:
        return f"expires {iso(key.expires_at)}"
    return f"used {iso(key.last_used_at)}" if key.last_used_at else "never used"


def _as_json(key: ApiKey) -> dict[str, Any]:
    times = {"createdAt": key.created_at, "expiresAt": key.expires_at, "revokedAt": key.revoked_at}
    return {
        "id": str(key.id),
        "name": key.name,
        "prefix": key.prefix,
        "scopes": sorted(key.scopes),
        **{name: _time(at) for name, at in {**times, "lastUsedAt": key.last_used_at}.items()},
    }


def _time(at: datetime | None) -> str | None:
    return None if at is None else iso(at)


def _scopes(text: str) -> frozenset[Scope]:
    names = {part.strip().lower() for part in text.split(",") if part.strip()}
    if not names or not names <= CLIENT_SCOPES:
        raise argparse.ArgumentTypeError("must be some of send, read, manage, admin, separated by commas")
    return frozenset(map(Scope, names))
