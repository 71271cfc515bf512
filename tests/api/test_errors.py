"""Bad input: one clear error each, with its code, its field and its HTTP status; never a trace."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest
from falcon.testing import ASGIConductor
from psycopg_pool import PoolTimeout

from api.app import create_app
from api.errors import HTTP_STATUS, graphql_extensions, headers_of, shown, status_of
from relay import errors
from relay.db import Conn
from relay.errors import RelayError, Throttled, Unavailable
from relay.settings import Settings
from tests.api.conftest import Api

SEND = "mutation($i: SendEventInput!) { sendEvent(input: $i) { id } }"
GOOD: dict[str, Any] = {"eventType": "a.b", "payload": {"n": 1}}
BAD: list[tuple[dict[str, Any], str]] = [
    ({"colour": "red"}, "colour"),
    ({"priority": 11}, "priority"),
    ({"priority": "high"}, "priority"),
    ({"priority": 1.5}, "priority"),
    ({"eventType": ""}, "eventType"),
    ({"eventType": "no spaces"}, "eventType"),
    ({"eventType": "relay.x"}, "eventType"),
    ({"eventType": None}, "eventType"),
    ({"deliverAt": "2030-01-01T00:00:00Z", "delaySeconds": 5}, "deliverAt"),
    ({"deliverAt": "2030-01-01T00:00:00"}, "deliverAt"),
    ({"delaySeconds": 2592001}, "delaySeconds"),
    ({"headers": {"host": "x"}}, "headers"),
    ({"headers": {"X-A": 1}}, "headers"),
    ({"idempotencyKey": "k" * 256}, "idempotencyKey"),
    ({"idempotencyKey": "a\x00b"}, "idempotencyKey"),
    ({"subject": "a\x00b"}, "subject"),
    ({"self": 1}, "self"),
    ({"payload": None}, "payload"),
]


async def nothing_is_stored(conn: Conn) -> bool:
    row = await (await conn.execute("SELECT count(*) FROM events")).fetchone()
    return row == (0,)


async def test_bad_input_names_its_field(api: Api, conn: Conn) -> None:
    for fields, field in BAD:
        assert await api.error(SEND, i={**GOOD, **fields}) == ("INVALID", field), fields
        rest = await api.post("/api/v1/events", {**GOOD, **fields})
        refusal = rest.json["error"]
        assert (rest.status_code, refusal["code"], refusal["field"]) == (400, "INVALID", field), fields
    assert await nothing_is_stored(conn)


async def test_a_payload_over_the_limit_is_413_by_rest_and_invalid_by_graphql(settings: Settings, conn: Conn) -> None:
    small = settings.model_copy(update={"max_payload_bytes": 100, "max_request_bytes": 2000})
    async with ASGIConductor(create_app(small)) as conductor:
        api = Api(conductor)
        large = {**GOOD, "payload": "x" * 101}
        rest = await api.post("/api/v1/events", large)
        assert (rest.status_code, rest.json["error"]) == (
            413,
            {**rest.json["error"], "code": "INVALID", "field": "payload"},
        )
        assert await api.error(SEND, i=large) == ("INVALID", "payload")
        for path in ("/graphql", "/api/v1/events", "/api/v1/events/batch"):
            answer = await api.post(path, b'"' + b"x" * 2000 + b'"')
            assert answer.status_code == 413
            assert "MAX_REQUEST_BYTES" in answer.text
    assert await nothing_is_stored(conn)


MALFORMED = [
    b"", b"{", b"[]", b"null", b'"x"', b'{"a":1} x', b'{"query":"{a}"', b"\xff\xfe",
    b'{"eventType":"\xff","payload":1}', b'{"eventType":"\\ud800","payload":1}', b'{"events":{}}',
    b'{"events":[1]}', b'{"query":1}', b"[" * 10_000_000,
    b'{"payload":' + b"[" * 5_000_000 + b"]" * 5_000_000 + b"}", b'{"query":"' + b"{" * 10_000_000 + b'"}',
    b'{"query":"{a","variables":' + b"[" * 10_000_000,
]  # fmt: skip


@pytest.mark.parametrize("path", ["/graphql", "/api/v1/events", "/api/v1/events/batch"])
async def test_a_malformed_body_is_400(api: Api, conn: Conn, path: str) -> None:
    for body in MALFORMED:
        answer = await api.post(path, body)
        assert answer.status_code == 400, body[:40]
        shown = answer.json["errors"][0]["extensions"]["code"] if path == "/graphql" else answer.json["error"]["code"]
        assert shown == "INVALID"
        assert "Traceback" not in answer.text
        assert len(answer.text) < 1000
    assert await nothing_is_stored(conn)


IMPOSSIBLE: list[tuple[str, str | None]] = [
    ("{", None),
    ("", None),
    ("{ nothing }", "nothing"),
    ("{ events }", "events"),
    ("{ events(first: 2) { nodes { id colour } } }", "colour"),
    ('{ events(first: "two") { totalCount } }', "first"),
    ("{ events(last: 2) { totalCount } }", "last"),
    ("query($n: Nope) { events { totalCount } }", "n"),
    ('mutation { sendEvent(input: {eventType: "a.b", payload: 1, priority: "x"}) { id } }', "priority"),
    ('mutation { sendEvent(input: {eventType: "a.b", payload: 1, colour: 1}) { id } }', "colour"),
    ('mutation { sendEvent(input: {eventType: "a.b", payload: RED}) { id } }', "payload"),
    ('mutation { sendEvent(input: {eventType: "a.b", payload: 1, deliverAt: "x"}) { id } }', "deliverAt"),
    ('mutation { sendEvent(input: {eventType: "a.b", payload: 1, deliverAt: 5}) { id } }', "deliverAt"),
    ("mutation { sendEvent(input: {payload: 1}) { id } }", "input"),
    ("subscription { events }", None),
    ("query A { __typename } query B { __typename }", "operationName"),
    ("fragment F on Query { __typename }", None),
    ("{" + "a " * 20_000 + "}", None),
    ("{ event(id: 1) " + "{ deliveries { event " * 15 + "{ id }" + "} }" * 15 + " }", "query"),
    ("{ events(first: 100) { nodes { deliveries(first: 100) { deliveryAttempts { id } } } } }", "query"),
    ("{ ...F } fragment F on Query { ...F }", None),
    ("{ ...F0 } " + " ".join(f"fragment F{n} on Query {{ ...F{n + 1} }}" for n in range(500)), "query"),
    ("{" + "__schema { types { fields { type { name } } } }" * 500 + "}", "query"),
]


async def test_a_query_that_cannot_be_is_400(api: Api) -> None:
    for query, field in IMPOSSIBLE:
        answer = await api.post("/graphql", {"query": query})
        assert answer.status_code == 400, query[:100]
        error = answer.json["errors"][0]
        assert (error["extensions"]["code"], error["extensions"].get("field")) == ("INVALID", field), query[:100]
        assert "data" not in answer.json


async def test_variables_must_be_an_object(api: Api) -> None:
    for variables in ([], "x", 5):
        answer = await api.post("/graphql", {"query": "{ __typename }", "variables": variables})
        assert (answer.status_code, answer.json["errors"][0]["extensions"]["field"]) == (400, "variables")


async def test_deep_but_legal_payloads_pass(api: Api, conn: Conn) -> None:
    payload = b"[" * 100 + b"]" * 100
    assert (await api.post("/api/v1/events", b'{"eventType":"a.b","payload":' + payload + b"}")).status_code == 202


async def test_an_error_after_a_field_ran_is_200(api: Api) -> None:
    answer = await api.post("/graphql", {"query": SEND, "variables": {"i": {**GOOD, "priority": 11}}})
    assert answer.status_code == 200
    (error,) = answer.json["errors"]
    assert error["path"] == ["sendEvent"]
    assert answer.json["data"] is None


async def test_other_methods_and_addresses_answer_json(api: Api) -> None:
    get = await api.get("/graphql")
    assert (get.status_code, get.json["errors"][0]["extensions"]["code"]) == (405, "INVALID")
    assert "POST" in get.headers["Allow"]
    assert (await api.get("/api/v1/events")).json["error"]["code"] == "INVALID"
    missing = await api.get("/nothing/here")
    assert (missing.status_code, missing.json["error"]["code"]) == (404, "NOT_FOUND")


async def test_request_ids_come_back(api: Api) -> None:
    answer = await api.post("/graphql", {"query": "{ nothing }"}, X_Request_Id="my-id-1")
    assert answer.headers["X-Request-Id"] == "my-id-1"
    assert answer.json["errors"][0]["extensions"]["requestId"] == "my-id-1"
    odd = await api.get("/health/live", X_Request_Id="a b\tc")
    assert odd.headers["X-Request-Id"] not in {"", "a b\tc"}


def test_postgres_gone_is_unavailable_with_a_time_to_come_back() -> None:
    for cause in (psycopg.OperationalError("server closed the connection"), PoolTimeout("no connection after 5 s")):
        error = shown(cause, request_id="r1")
        assert (status_of(error), error.code) == (503, "UNAVAILABLE")
        assert str(cause) not in error.message
        assert headers_of(error) == {"Retry-After": "1"}


def test_every_error_has_a_status_and_a_code() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, RelayError)]
    for kind in kinds:
        if kind is not RelayError:
            assert status_of(kind("because")) == HTTP_STATUS[kind]
            assert graphql_extensions(kind("because", field="f"), request_id="r")["code"] == kind.code


def test_an_unforeseen_exception_is_logged_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    cause = shown(ValueError("the password is hunter2"), request_id="r1")
    assert (cause.code, cause.message) == ("UNAVAILABLE", "internal error")
    assert "hunter2" in caplog.text


def test_when_to_come_back_is_said_in_whole_seconds_and_in_milliseconds() -> None:
    assert headers_of(Throttled("slow down", retry_after_s=1.2)) == {"Retry-After": "2"}
    assert headers_of(Unavailable("full")) == {"Retry-After": "1"}
    assert json.dumps(graphql_extensions(Throttled("x", retry_after_s=0.25), request_id="r")).count("250") == 1
