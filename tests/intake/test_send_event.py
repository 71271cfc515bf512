"""`relay.send_event`: what an application may call inside its own transaction, what it refuses there, and who may call it."""

from __future__ import annotations

import secrets
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from relay import producer_role
from relay.db import Conn
from relay.ids import unix_time
from relay.migrate import migrate
from tests.conftest import with_database
from tests.delivery.crew import rows

PAYLOAD = '{"total": 12.50, "total_": 1e2}'
CALL = "SELECT relay.send_event(%(client)s, %(type)s, %(payload)s)"
REFUSED = [
    ("SELECT relay.send_event('nobody', 'order.paid', '{}')", "there is no client 'nobody'"),
    ("SELECT relay.send_event(NULL, 'order.paid', '{}')", "there is no client null"),
    ("SELECT relay.send_event('shop', 'order paid', '{}')", "type must be 1 to 255 of"),
    ("SELECT relay.send_event('shop', E'order.paid\\n', '{}')", "type must be 1 to 255 of"),
    ("SELECT relay.send_event('shop', repeat('a', 256), '{}')", "type must be 1 to 255 of"),
    ("SELECT relay.send_event('shop', NULL, '{}')", "type must be 1 to 255 of"),
    ("SELECT relay.send_event('shop', 'relay.job.done', '{}')", "type must not begin with relay."),
    ("SELECT relay.send_event('strict', 'order.lost', '{}')", "type order.lost is not known"),
    ("SELECT relay.send_event('shop', 'order.paid', NULL::text)", "payload must not be null"),
    ("SELECT relay.send_event('shop', 'order.paid', NULL::bytea)", "payload must not be null"),
    ("SELECT relay.send_event('shop', 'order.paid', '{\"a\":')", "invalid input syntax for type json"),
    ("SELECT relay.send_event('shop', 'order.paid', '\\xff'::bytea)", "invalid byte sequence"),
    ("SELECT relay.send_event('shop', 'order.paid', '{}', key => '')", "key must have 1 to 255 characters"),
    ("SELECT relay.send_event('shop', 'order.paid', '{}', key => repeat('k', 256))", "key must have 1 to 255"),
    ("SELECT relay.send_event('shop', 'order.paid', '{}', subject => '')", "subject must have 1 to 255"),
    ("SELECT relay.send_event('shop', 'order.paid', '{}', priority => 11)", "priority must be between 1 and 10"),
    ("SELECT relay.send_event('shop', 'order.paid', '{}', headers => '[]')", "headers must be a JSON object"),
    ("SELECT relay.send_event('shop', 'order.paid', '{}', deliver_at => now() + '31 days')", "at most 30 days ahead"),
]


@pytest.fixture
async def clients(conn: Conn) -> Conn:
    """Two clients: `shop`, and `strict`, which takes no type but `order.paid`."""
    await conn.execute(
        """WITH t AS (INSERT INTO tenants (id, name, unknown_event_types)
               VALUES (gen_random_uuid(), 'shop', 'allow'), (gen_random_uuid(), 'strict', 'refuse') RETURNING id, name)
           INSERT INTO event_types (id, tenant_id, name) SELECT gen_random_uuid(), id, 'order.paid' FROM t
           WHERE name = 'strict'"""
    )
    return conn


async def test_it_leaves_a_row_of_what_it_was_given_for_text_bytes_and_jsonb(clients: Conn) -> None:
    ((strict,),) = await rows(clients, "SELECT id::text FROM tenants WHERE name = 'strict'")
    for client, payload in (("shop", PAYLOAD), ("shop", PAYLOAD.encode()), (strict, Jsonb({"a": 1}))):
        given: dict[str, Any] = {"client": client, "type": "order.paid", "payload": payload}
        assert await (await clients.execute(CALL, given)).fetchone() is not None
    ((id,),) = await rows(
        clients,
        """SELECT relay.send_event('shop', 'a', '\\x00ff'::bytea, key => 'k', headers => '{"x-a": "b"}', subject => 's',
                  priority => 9, deliver_at => '2030-01-01 00:00Z'::timestamptz - interval '10 years',
                  content_type => 'image/png')""",
    )
    found = await rows(
        clients,
        """SELECT t.name, p.type, p.payload, p.content_type, p.headers, p.subject, p.priority, p.key,
                  extract(year FROM p.deliver_at AT TIME ZONE 'UTC')::int, p.refused
           FROM producer_events p JOIN tenants t ON t.id = p.tenant_id ORDER BY n""",
    )
    rest = ("application/json", None, None, 5, None, None, None)
    assert found == [
        ("shop", "order.paid", PAYLOAD.encode(), *rest),
        ("shop", "order.paid", PAYLOAD.encode(), *rest),
        ("strict", "order.paid", b'{"a": 1}', *rest),
        ("shop", "a", b"\0\xff", "image/png", {"x-a": "b"}, "s", 9, "k", 2020, None),
    ]
    assert (await rows(clients, "SELECT id FROM producer_events ORDER BY n DESC LIMIT 1")) == [(id,)]


async def test_what_is_wrong_at_first_sight_is_an_error_in_the_callers_transaction(clients: Conn) -> None:
    for call, says in REFUSED:
        with pytest.raises(psycopg.DataError) as refused:
            await clients.execute(call.encode())
        assert says in str(refused.value), call
    assert await rows(clients, "SELECT count(*) FROM producer_events") == [(0,)]


async def test_what_a_transaction_or_a_savepoint_takes_back_was_never_sent(clients: Conn, database_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(database_url) as other:
        await other.execute("SELECT relay.send_event('shop', 'order.paid', '1')")
        await other.execute("SAVEPOINT a")
        await other.execute("SELECT relay.send_event('shop', 'order.paid', '2')")
        await other.execute("ROLLBACK TO a")
        assert await rows(clients, "SELECT payload FROM producer_events") == []
        await other.commit()
        await other.execute("SELECT relay.send_event('shop', 'order.paid', '3')")
        await other.rollback()
    assert await rows(clients, "SELECT payload FROM producer_events") == [(b"1",)]


async def test_ids_are_in_the_order_of_the_calls_and_of_their_time(clients: Conn) -> None:
    found = await rows(clients, "SELECT relay.send_event('shop', 'a', '1') FROM generate_series(1, 300)")
    ids: list[Any] = [id for (id,) in found]
    assert ids == sorted(ids)
    assert len(set(ids)) == 300
    assert all(id.version == 7 for id in ids)
    ((now,),) = await rows(clients, "SELECT extract(epoch FROM now())::float8")
    assert isinstance(now, float)
    assert all(now - 30 < unix_time(id) <= now for id in ids)
    # A number with more than 26 bits goes on in the bits before the variant.
    ((far,),) = await rows(
        clients,
        """SELECT array_agg(producer_event_id('2026-01-01Z', n) ORDER BY n)
           FROM unnest('{1, 67108863, 67108864, 134217729, 274877906943}'::bigint[]) AS n""",
    )
    assert isinstance(far, list)
    assert far == sorted(far)


async def test_nobody_puts_a_function_of_his_own_in_the_place_of_a_built_in_one(clients: Conn) -> None:
    """As on a server that was installed before 15, where everybody may make functions in `public`."""
    for name, arguments, result in (
        ("nextval", "text", "bigint"),
        ("nextval", "varchar", "bigint"),
        ("convert_from", "bytea, text", "text"),
        ("starts_with", "text, varchar", "bool"),
        ("length", "varchar", "int"),
        ("quote_literal", "varchar", "text"),
        ("jsonb_typeof", "json", "text"),
    ):
        body = "BEGIN RAISE EXCEPTION 'taken over'; END"
        made = f"CREATE FUNCTION public.{name}({arguments}) RETURNS {result} LANGUAGE plpgsql AS $${body}$$"
        await clients.execute(made.encode())
    await clients.execute("SELECT relay.send_event('shop', 'a', '1', key => 'k', headers => '{}', subject => 's')")
    with pytest.raises(psycopg.DataError, match="there is no client"):
        await clients.execute("SELECT relay.send_event('nobody', 'a', '1')")


async def test_the_role_may_call_it_and_nothing_else(clients: Conn, database_url: str) -> None:
    user, password = f"app_{secrets.token_hex(4)}", secrets.token_hex(8)
    await clients.execute(f"CREATE ROLE {user} LOGIN PASSWORD '{password}' IN ROLE relay_producer".encode())
    place = database_url.rpartition("@")[2]
    try:
        async with await psycopg.AsyncConnection.connect(
            f"postgresql://{user}:{password}@{place}", autocommit=True
        ) as app:
            for payload in ("1", b"2", Jsonb(3)):
                given: dict[str, Any] = {"client": "shop", "type": "order.paid", "payload": payload}
                await app.execute(CALL, given)
            for statement in await _everything_else(clients):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    await app.execute(statement.encode())
        assert await rows(clients, "SELECT payload FROM producer_events ORDER BY n") == [(b"1",), (b"2",), (b"3",)]
        await clients.execute("REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA relay FROM relay_producer")
        assert migrate(database_url) == [], "which grants again what is missing, as after a restored dump"
        assert await rows(clients, "SELECT has_schema_privilege('relay_producer', 'relay', 'USAGE')") == [(True,)]
        assert await rows(
            clients,
            """SELECT bool_and(has_function_privilege('relay_producer', p.oid, 'EXECUTE')), count(*),
                      bool_or(has_function_privilege('pg_monitor', p.oid, 'EXECUTE'))
               FROM pg_proc p WHERE proname = 'send_event'""",
        ) == [(True, 3, False)]
    finally:
        await clients.execute(f"DROP ROLE {user}".encode())


async def _everything_else(conn: Conn) -> list[str]:
    """A try at every table, view and sequence of Relay, and at making some."""
    found = await rows(
        conn,
        """SELECT relkind::text, relname::text FROM pg_class
           WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'S')""",
    )
    assert len(found) > 30
    tries = [f"SELECT nextval('{name}')" if kind == "S" else f'SELECT 1 FROM "{name}"' for kind, name in found]
    tries += [f'DELETE FROM "{name}"' for kind, name in found if kind in ("r", "p")]
    return [*tries, "CREATE TABLE relay.mine ()", "CREATE TABLE public.mine ()", "SET ROLE relay"]


def test_a_schema_named_like_the_user_takes_nothing_over(empty_database_url: str) -> None:
    """Every test's user is `relay`, so that the schema comes first in its path; an older release knows nothing of it."""
    migrate(empty_database_url)
    old = "CREATE TABLE IF NOT EXISTS schema_migrations (version int PRIMARY KEY, name text NOT NULL)"
    with psycopg.connect(empty_database_url, autocommit=True) as conn:
        assert conn.execute("SELECT current_schema()").fetchall() == [("public",)]
        conn.execute(old)
        name = empty_database_url.rpartition("/")[2]
        conn.execute(f"ALTER ROLE CURRENT_USER IN DATABASE {name} RESET ALL".encode())
        conn.execute(f"DROP TABLE events_{_tomorrow(conn)}".encode())
    assert migrate(empty_database_url) == []
    with psycopg.connect(empty_database_url) as conn:
        strays = "SELECT relname FROM pg_class WHERE relnamespace = 'relay'::regnamespace"
        assert conn.execute(strays).fetchall() == []
        assert conn.execute("SELECT current_schema()").fetchall() == [("public",)]
        assert conn.execute("SELECT to_regclass('events_' || %s) IS NOT NULL", (_tomorrow(conn),)).fetchall() == [
            (True,)
        ]


def _tomorrow(conn: psycopg.Connection[Any]) -> str:
    return conn.execute("SELECT to_char((now() AT TIME ZONE 'UTC')::date + 1, 'YYYYMMDD')").fetchall()[0][0]


def test_without_the_right_to_make_roles_all_else_is_migrated(
    postgres_url: str, empty_database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    name, user = empty_database_url.rpartition("/")[2], f"plain_{secrets.token_hex(4)}"
    monkeypatch.setattr(producer_role, "ROLE", "relay_producer_of_nobody")
    with psycopg.connect(postgres_url, autocommit=True) as conn:
        conn.execute(f"CREATE ROLE {user} LOGIN PASSWORD 'p'".encode())
        conn.execute(f"ALTER DATABASE {name} OWNER TO {user}".encode())
        try:
            with caplog.at_level("INFO"):
                assert migrate(f"postgresql://{user}:p@{with_database(postgres_url, name).rpartition('@')[2]}")
            assert "there is no role relay_producer_of_nobody, and this one may not make it" in caplog.text
        finally:
            conn.execute(f"ALTER DATABASE {name} OWNER TO CURRENT_USER".encode())
            with psycopg.connect(empty_database_url, autocommit=True) as owned:
                owned.execute(f"DROP OWNED BY {user} CASCADE".encode())
            conn.execute(f"DROP ROLE {user}".encode())
