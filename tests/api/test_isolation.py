"""Another client's ids are ids that never were: every operation of the schema is called with both, by a generator."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from graphql import build_schema
from psycopg import sql

from api.graphql.schema import core_schema
from relay.db import Conn
from relay.settings import Settings
from relay.tenancy.scopes import CLIENT_SCOPES, Scope
from tests.api.conftest import Api, make_key
from tests.api.graphql.test_loaders import statements
from tests.api.operations import Operation, operations
from tests.rows import World, make_world

START = "mutation($i: ReplayInput!) { startReplay(input: $i) { id } }"
NEVER = "01890000-0000-7000-8000-000000000000"
TYPE = "mutation($name: String!) { createEventType(input: {name: $name}) { id } }"
MARKER = "owned-by-a"
OPERATIONS = list(operations(core_schema))
#: Of a kind that no list shows, or a list that is not the client's: asked in their own way.
LISTS = {"ApiKey": "apiKeys", "EventType": "eventTypes"}
CHANGES_BY_LOOKING = {"api_keys"}


async def ids_of(api: Api, world: World, mark: str) -> dict[str, str]:
    """One id of every kind of thing that a client has; the client's mark is on each."""
    event = await world.event(type=mark, subject=mark, idempotency_key=mark)
    job = {"since": "2026-01-01T00:00:00Z", "until": "2026-01-02T00:00:00Z", "eventTypes": [mark]}
    ids = {
        "Client": str(world.tenant_id),
        "Event": str(event),
        "Endpoint": str(world.endpoint_id),
        "Delivery": str(await world.finished(event, "dead")),
        "Job": (await api.data(START, i=job))["startReplay"]["id"],
    }
    await api.data(TYPE, name=mark)
    await api.data("mutation($n: String!) { createApiKey(input: {name: $n, scopes: [READ]}) { key } }", n=mark)
    query = core_schema.query_type
    assert query is not None
    for kind, field in LISTS.items():
        if field in query.fields:
            found = (await api.data(f"{{ {field} {{ nodes {{ id }} }} }}"))[field]["nodes"]
            ids[kind] = found[0]["id"]
    return ids


async def told(api: Api, operation: Operation, id: str, own: Mapping[str, str]) -> str:
    """The answer, but for the id that was asked for, the request's and the time."""
    answer = await api.post("/graphql", {"query": operation.document, "variables": operation.trying(id, own)})
    text = f"{answer.status_code} {answer.text}".replace(id, "THE-ID")
    text = re.sub(r'"requestId":"[^"]*"', '"requestId":""', text)
    text = re.sub(r'("eraseEvents":\{"__typename":"BulkJob","id":)"[^"]*"', r'\1"A-NEW-JOB"', text)
    return re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[.\d]*(?:Z|\+00:00)", "THEN", text)


async def fingerprint(conn: Conn, tenant_id: object) -> dict[str, Any]:
    """Every row of a client, in every table that knows clients."""
    rows = await conn.execute(
        """SELECT c.table_name FROM information_schema.columns c
           JOIN information_schema.tables t USING (table_schema, table_name)
           WHERE c.table_schema = 'public' AND c.column_name = 'tenant_id' AND t.table_type = 'BASE TABLE'
             AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = c.table_name::regclass)"""
    )
    found: dict[str, Any] = {}
    for (table,) in await rows.fetchall():
        if table not in CHANGES_BY_LOOKING:
            of_it = await conn.execute(
                sql.SQL(
                    "SELECT count(*), md5(string_agg(t::text, '' ORDER BY t::text)) FROM {} t WHERE tenant_id = %s"
                ).format(sql.Identifier(table)),
                (tenant_id,),
            )
            found[table] = await of_it.fetchone()
    return found


@dataclass(frozen=True)
class Owner:
    """A client with one of everything."""

    api: Api
    world: World
    ids: Mapping[str, str]


async def owner(locked: Api, conn: Conn, settings: Settings, *, name: str) -> Owner:
    api = Api(locked.conductor, await make_key(conn, settings, client=name, scopes=CLIENT_SCOPES))
    await api.data("{ __typename }")
    world = await make_world(conn, name)
    return Owner(api, world, await ids_of(api, world, name))


@pytest.fixture
async def a(locked: Api, conn: Conn, settings: Settings) -> Owner:
    return await owner(locked, conn, settings, name=MARKER)


@pytest.fixture
async def b(locked: Api, conn: Conn, settings: Settings) -> Owner:
    return await owner(locked, conn, settings, name="b")


def for_clients(*, with_id: bool) -> Iterator[Operation]:
    """The operations that a client's key may call."""
    for one in OPERATIONS:
        if (one.place is not None) == with_id and "OPERATOR" not in needed(one):
            yield one


def needed(operation: Operation) -> str:
    """The scope that an operation asks for."""
    root = core_schema.query_type if operation.root == "query" else core_schema.mutation_type
    assert root is not None
    field = root.fields[operation.name].extensions["strawberry-definition"]
    return next(directive.scope for directive in field.directives if hasattr(directive, "scope")).name


async def test_another_clients_ids_are_ids_that_never_were(
    a: Owner, b: Owner, conn: Conn, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await fingerprint(conn, a.world.tenant_id)
    wrong: list[str] = []
    for one in for_clients(with_id=True):
        assert one.kind is not None
        if (difference := await difference_of(b, one, a.ids[one.kind], monkeypatch)) is not None:
            wrong.append(f"{one.root} {one.place}: {difference}")
    assert wrong == []
    assert await fingerprint(conn, a.world.tenant_id) == before


async def difference_of(b: Owner, one: Operation, foreign: str, monkeypatch: pytest.MonkeyPatch) -> str | None:
    """What tells a foreign id from one that never was; statements of the background may come between, so again and again."""
    counts: set[tuple[int, int]] = set()
    for _ in range(10):
        with statements(monkeypatch) as for_foreign:
            answered = await told(b.api, one, foreign, b.ids)
        with statements(monkeypatch) as for_never:
            expected = await told(b.api, one, NEVER, b.ids)
        if answered != expected:
            return f"{answered} is not {expected}"
        if len(for_foreign) == len(for_never):
            return None
        counts.add((len(for_foreign), len(for_never)))
    return f"so many statements for a foreign id and for one that never was: {counts}"


async def test_what_is_listed_and_counted_shows_nothing_of_another_client(a: Owner, b: Owner) -> None:
    shown = {
        one.name: text
        for one in for_clients(with_id=False)
        for text in [await told(b.api, one, NEVER, b.ids)]
        if any(mark in text for mark in (MARKER, *a.ids.values()))
    }
    assert shown == {}


async def test_the_generators_requests_get_as_far_as_the_id(a: Owner) -> None:
    refused = {
        f"{one.root} {one.place or one.name}": text
        for with_id in (True, False)
        for one in sorted(for_clients(with_id=with_id), key=lambda one: (one.root == "mutation", "delete" in one.name))
        for text in [await told(a.api, one, a.ids.get(one.kind or "", NEVER), a.ids)]
        if '"INVALID"' in text or not text.startswith("200")
    }
    assert refused == {}


def test_every_operation_has_its_requests() -> None:
    roots = (core_schema.query_type, core_schema.mutation_type)
    assert {one.name for one in OPERATIONS} == {name for root in roots if root for name in root.fields}


@pytest.mark.parametrize(
    "field", ["thing(id: ID!): Int", "endpoint(id: ID!, otherId: ID): Int", "event(moon: Moon!): Int"]
)
def test_an_operation_the_generator_cannot_call_fails_the_suite(field: str) -> None:
    schema = build_schema(f"scalar Moon type Mutation {{ x: Int }} type Query {{ {field} }}")
    with pytest.raises(LookupError, match=r"tests/api/operations\.py"):
        list(operations(schema))


def test_scopes_are_told() -> None:
    assert {needed(one) for one in OPERATIONS} <= {scope.name for scope in Scope}
