"""After a full run no secret is found in clear: in no table, not in Redis, in no log and in no answer."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import psycopg
import redis
from psycopg import sql

from api.graphql.schema import core_schema
from relay.catalog.secrets import Vault
from relay.db import Conn
from relay.delivery.signing import new_secret
from relay.settings import Settings
from relay.tenancy import api_keys, tenants
from relay.tenancy.scopes import CLIENT_SCOPES
from tests.api.operations import operations
from tests.e2e.planted import PLANTS, answer, spellings
from tests.running import until_true
from tests.sink import Sink
from tests.site import Site

NEVER = "01890000-0000-7000-8000-000000000000"
KINDS = ("EventType", "Event", "Delivery", "Endpoint", "Job", "ApiKey", "Client")
BEARER = "Bearer a-token-of-the-customer"


def dump(database_url: str) -> dict[str, bytes]:
    """Every row of every table, as Postgres writes it."""
    found: dict[str, bytes] = {}
    with psycopg.connect(database_url) as conn:
        names = conn.execute(
            """SELECT table_schema, table_name FROM information_schema.tables
               WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')"""
        ).fetchall()
        for name in names:
            copy = sql.SQL("COPY (SELECT * FROM {}) TO STDOUT").format(sql.Identifier(*name))
            with conn.cursor() as cursor, cursor.copy(copy) as rows:
                found[".".join(name)] = b"".join(bytes(row) for row in rows)
    return found


def everything_in(redis_url: str) -> bytes:
    """Every key and value of every database."""
    seen: list[Any] = []
    databases = {int(name[2:]) for name in redis.Redis.from_url(redis_url).info("keyspace")}
    for number in databases:
        client: Any = redis.Redis.from_url(redis_url, db=number)
        read = {
            b"string": client.get,
            b"list": lambda key, client=client: client.lrange(key, 0, -1),
            b"hash": client.hgetall,
            b"set": client.smembers,
            b"zset": lambda key, client=client: client.zrange(key, 0, -1),
            b"stream": client.xrange,
        }
        for key in client.scan_iter():
            kind = client.type(key)
            seen.append((key, read[kind](key) if kind != b"none" else None))
        client.close()
    return repr(seen).encode()


def ask_everything(site: Site, ids: dict[str, str]) -> None:
    """Every query of the schema with all its fields, for things that are there."""
    for one in operations(core_schema):
        if one.root == "query":
            site.tell(
                one.document, **one.trying(ids.get(one.kind or "", NEVER), {**dict.fromkeys(KINDS, NEVER), **ids})
            )


async def ids_in(conn: Conn) -> dict[str, str]:
    rows = await conn.execute(
        """SELECT 'Event', (SELECT id FROM events LIMIT 1) UNION ALL SELECT 'Delivery', (SELECT id FROM history LIMIT 1)
           UNION ALL SELECT 'Endpoint', (SELECT id FROM endpoints WHERE custom_headers IS NOT NULL LIMIT 1)
           UNION ALL SELECT 'Client', (SELECT id FROM tenants WHERE name = 'shop')
           UNION ALL SELECT 'ApiKey', (SELECT id FROM api_keys LIMIT 1)"""
    )
    return {kind: str(id) async for kind, id in rows}


async def test_no_secret_stands_anywhere_in_clear(settings: Settings, conn: Conn, tmp_path: Path) -> None:
    changes = {
        "auth_enabled": True,
        "log_level": "debug",
        "signing_key_previous": "the key of before, for opening alone",
    }
    own = settings.model_copy(update=changes)
    tenant, secret = await tenants.ensure(conn, "shop", vault=Vault.of(own))
    assert secret
    _, key = await api_keys.create(conn, tenant.id, name="all", scopes=CLIENT_SCOPES)
    site = Site(own, tmp_path, key)
    with Sink(answer) as sink:
        try:
            await site.start()
            planted = [secret]
            for plant in PLANTS:
                planted += await asyncio.to_thread(plant, site, sink)
            await asyncio.to_thread(site.endpoint, sink.url("/custom"), customHeaders={"Authorization": BEARER})
            for n in range(5):
                await asyncio.to_thread(site.send, {"n": n})
            await until_true(conn, "SELECT NOT EXISTS (SELECT 1 FROM live) AND NOT EXISTS (SELECT 1 FROM outbox)")
            await until_true(conn, "SELECT count(*) >= 30 FROM attempts")
            await asyncio.to_thread(ask_everything, site, await ids_in(conn))
            arrivals = list(sink.arrivals)
            remains = {**dump(own.database_url), "redis": everything_in(own.redis_url)}
        finally:
            site.kill()
    remains["logs"] = b"".join(log.read_bytes() for log in site.logs)
    remains["answers"] = b"\n".join(site.answers)
    assert all(
        remains[place]
        for place in (
            "public.attempts",
            "public.secrets",
            "public.credentials",
            "public.audit_log",
            "logs",
            "answers",
            "redis",
        )
    )
    for secret in planted:
        for spelled in spellings(secret):
            assert [place for place, content in remains.items() if spelled in content] == [], secret
    assert {arrival.headers.get("authorization") for arrival in arrivals if arrival.path == "/custom"} == {BEARER}
    assert {place for place, content in remains.items() if BEARER.encode() in content} <= {
        "public.endpoints",
        "answers",
    }


def test_what_is_looked_for_would_be_found() -> None:
    secret = new_secret()
    for row in (secret, f"\\x{secret.encode().hex()}", f'{{"secret": "{secret}"}}'):
        assert any(spelled in row.encode() for spelled in spellings(secret))
