"""Bounds of documents and time, what browsers are told, and keys that stand in a URL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
from falcon.testing import ASGIConductor

from api.app import create_app
from api.graphql import cost
from api.graphql.documents import MAX_COMMENTS, MAX_TOKENS
from api.sending import MAX_BATCH
from api.slow_clients import MAX_HEADER_BYTES, PatientHttp
from relay import strict_json
from relay.db import Conn
from relay.settings import Settings
from relay.tenancy.scopes import CLIENT_SCOPES
from tests.api.conftest import Api, make_key

WIDE = [
    ("{" + " ".join(f"a{n}: __typename" for n in range(101)) + "}", "aliases"),
    ("{ ...F } fragment F on Query {" + " ".join(f"a{n}: __typename" for n in range(101)) + "}", "aliases"),
    ("{" + "__typename " * 501 + "}", "fields"),
    ("{" + "...F " * 501 + "} fragment F on Query { __typename }", "fields"),
    ("{" + "... { __typename } " * 251 + "}", "fields"),
    ("{" + "a " * 10_000 + "}", "tokens"),
    ("{ event(id: 1) " + "{ deliveries { event " * 15 + "{ id }" + "} }" * 15 + " }", "deeply"),
    ("{a" * 3000 + "}" * 3000, "deeply"),
    ("{ events(first: " + "[" * 3000 + "]" * 3000 + ") { totalCount } }", "deeply"),
    ("{ events(first: 100) { nodes { deliveries(first: 100) { deliveryAttempts { id } } } } }", "objects"),
]  # fmt: skip


async def test_what_is_too_wide_or_deep_or_long_is_refused_before_it_runs(api: Api) -> None:
    for query, word in WIDE:
        answer = await api.post("/graphql", {"query": query})
        (error,) = answer.json["errors"]
        assert (answer.status_code, error["extensions"]["code"], "data" in answer.json) == (400, "INVALID", False), word
        assert word in error["message"], query[:80]
    bounded = "{" + " ".join(f"a{n}: __typename" for n in range(100)) + " __typename" * 400 + "}"
    assert (await api.post("/graphql", {"query": bounded})).status_code == 200


INTROSPECTION = [
    "{ __schema { queryType { name } } }",
    '{ __type(name: "Event") { name } }',
    '{ a: __type(name: "Event") { name } }',
    "{ events { totalCount } ... on Query { ...F } } fragment F on Query { x: __schema { types { name } } }",
    "query A { __typename } query B { __schema { queryType { name } } }",
]


async def test_the_schema_is_told_only_where_the_playground_is_on(
    api: Api, locked: Api, conn: Conn, settings: Settings
) -> None:
    with_key = Api(locked.conductor, await make_key(conn, settings))
    for query in INTROSPECTION:
        body = {"query": query, "operationName": "B"} if "query B" in query else {"query": query}
        refused = await with_key.post("/graphql", body)
        assert (refused.status_code, refused.json["errors"][0]["extensions"]["code"]) == (400, "INVALID"), query
        assert "ENABLE_PLAYGROUND" in refused.text
        assert (await api.post("/graphql", body)).status_code == 200, query
    assert await with_key.data("{ __typename events { nodes { __typename } } }")
    assert (await with_key.get("/graphql/schema")).status_code == 200


@pytest.fixture
async def hasty(settings: Settings) -> AsyncIterator[Api]:
    async with ASGIConductor(
        create_app(settings.model_copy(update={"request_timeout_s": 1, "hsts_max_age_s": 60}))
    ) as conductor:
        yield Api(conductor)


async def test_what_takes_too_long_is_unavailable_and_ends_in_postgres(
    hasty: Api, conn: Conn, settings: Settings
) -> None:
    async with await psycopg.AsyncConnection.connect(settings.database_url) as other:
        await other.execute("LOCK TABLE events")
        query, event = await asyncio.gather(
            hasty.post("/graphql", {"query": "{ events { nodes { id } } }"}),
            hasty.post("/api/v1/events", {"eventType": "a.b", "payload": 1}),
        )
        assert (query.status_code, query.json["errors"][0]["extensions"]["code"]) == (503, "UNAVAILABLE")
        assert (event.status_code, event.json["error"]["code"]) == (503, "UNAVAILABLE")
        assert "REQUEST_TIMEOUT_S" in query.text
        assert "REQUEST_TIMEOUT_S" in event.text
        await other.rollback()
    assert (await hasty.post("/graphql", {"query": "{ events { nodes { id } } }"})).status_code == 200


def test_the_page_of_limits_says_what_is_so() -> None:
    page = (Path(__file__).parents[2] / "docs" / "limits.md").read_text(encoding="utf-8").replace(" ", "")
    for what, limit in (
        ("tokensofadocument", MAX_TOKENS),
        ("depth", cost.MAX_DEPTH),
        ("aliases", cost.MAX_ALIASES),
        ("fieldsandfragmentspreads,aswritten", cost.MAX_SELECTIONS),
        ("objectsananswercouldhold", cost.MAX_OBJECTS),
        ("depthofJSON", strict_json.MAX_DEPTH),
        ("eventsofonerequest", MAX_BATCH),
        ("headersofarequest", MAX_HEADER_BYTES // 1024),
        ("timeuntiltheheadersarethere", int(PatientHttp.headers_s)),
    ):
        assert f"\n|{what}|{limit}" in page, what
    assert f"and{MAX_COMMENTS}comments" in page
    assert "morethan4300digits" in page
    assert strict_json.LONGEST_NUMBER == 4300


ADDRESSES = ("/", "/graphql", "/api/v1/events", "/nothing", "/health/live", "/metrics", "/dramatiq", "/playground")


async def test_every_answer_tells_browsers_to_be_careful(api: Api, hasty: Api) -> None:
    for address in ADDRESSES:
        answer = await api.get(address, Origin="http://falconframework.org")
        assert answer.headers["X-Content-Type-Options"] == "nosniff", address
        assert answer.headers["Referrer-Policy"] in {"no-referrer", "same-origin"}, address
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"], address
        assert answer.headers["Cache-Control"] in {"no-store", "no-cache"}, address
        assert [name for name in answer.headers if name.lower().startswith("access-control")] == [], address
        assert "Strict-Transport-Security" not in answer.headers
    assert (await hasty.get("/")).headers["Strict-Transport-Security"] == "max-age=60; includeSubDomains"


async def test_no_other_site_may_ask(locked: Api, conn: Conn, settings: Settings) -> None:
    asked = await locked.conductor.simulate_options(
        "/graphql", headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    )
    with_key = Api(locked.conductor, await make_key(conn, settings))
    answer = await with_key.post("/graphql", {"query": "{ __typename }"}, Origin="https://evil.example")
    for headers in (asked.headers, answer.headers):
        assert [name for name in headers if name.lower().startswith("access-control")] == []


async def test_a_key_in_a_url_is_refused_whether_it_works_or_not(locked: Api, conn: Conn, settings: Settings) -> None:
    key = await make_key(conn, settings, scopes=CLIENT_SCOPES)
    with_key = Api(locked.conductor, key)
    for url in (f"/graphql?api_key={key}", "/api/v1/events?X-API-Key=abc", f"/logs/stream?type={key}", "/?token=x",
                f"/health/live?a=1&a={key.replace('_', '%5F')}"):  # fmt: skip
        answer = await with_key.post(url, "{}") if "api" in url else await with_key.get(url)
        assert answer.status_code == 400, url
        assert "must not stand in a URL" in answer.text
        assert key not in answer.text
