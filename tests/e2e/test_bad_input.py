"""Bad input: one clear error with its code, its field and its HTTP status, nothing stored, no trace of our code shown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.e2e.client import CREATE_ENDPOINT, Client
from tests.e2e.system import System

SEND = "mutation($input: SendEventInput!) { sendEvent(input: $input) { id } }"
CREATE_EVENT = "mutation($input: CreateEventInput!) { createEvent(input: $input) { id } }"
EVENT: dict[str, Any] = {"eventType": "order.paid", "payload": 1}
ONE_URL: dict[str, Any] = {"destination": "http://127.0.0.1:9999/", "payload": 1}
BOTH_TIMES = {"deliverAt": "2030-01-01T00:00:00Z", "delaySeconds": 5}
LIMIT = 1 << 20
HUGE = 16 << 20
SETTING = "ALLOWED_PRIVATE_NETWORKS"

# What is wrong, the HTTP status of REST, the field that is named, and a word of the message.
EVENTS: list[tuple[dict[str, Any], int, str, str]] = [
    ({"colour": "red"}, 400, "colour", "colour"),
    ({"payload": "x" * LIMIT}, 413, "payload", str(LIMIT)),
    ({"payload": None}, 400, "payload", "null"),
    ({"priority": 11}, 400, "priority", "10"),
    ({"priority": 0}, 400, "priority", "1"),
    ({"headers": {"webhook-id": "x"}}, 400, "headers", "webhook-id"),
    (BOTH_TIMES, 400, "deliverAt", "delaySeconds"),
]
URLS: list[tuple[str, str]] = [
    ("example.com/hook", "http"),
    ("ftp://example.com/hook", "http"),
    ("https://user:secret@example.com/hook", "user"),
    ("http://10.1.2.3/hook", SETTING),
    ("http://192.168.0.1/hook", SETTING),
    ("http://[fd00::1]/hook", SETTING),
    ("http://169.254.1.1/", SETTING),
    ("http://169.254.169.254/latest/meta-data", "must not send to"),
    ("http:///hook", "host"),
]
INTAKE = ("/api/v1/events", "/api/v1/events/batch")
NESTED = b"[" * 5_000_000 + b"]" * 5_000_000
BODIES: list[tuple[str, bytes, int]] = [
    ("/graphql", b"{", 400),
    ("/graphql", b'{"query":"{ events', 400),
    ("/graphql", b"\xff\xfe", 400),
    ("/graphql", NESTED, 400),
    ("/graphql", b'{"query":"{ events { totalCount } }","variables":' + NESTED + b"}", 400),
    ("/graphql", b'{"query":"' + b"{" * 10_000_000 + b'"}', 400),
    ("/graphql", b'"' + b"x" * HUGE + b'"', 413),
    ("/api/v1/events", b"", 400),
    ("/api/v1/events", b'{"eventType":"order.paid","payload":{]}', 400),
    ("/api/v1/events", b'{"eventType":"order.paid","payload":' + NESTED + b"}", 400),
    ("/api/v1/events", NESTED, 400),
    ("/api/v1/events", b'"' + b"x" * HUGE + b'"', 413),
    ("/api/v1/events/batch", b'{"events":[{"payload":1,}]}', 400),
    ("/api/v1/events/batch", b'{"events":' + NESTED + b"}", 400),
    ("/api/v1/events/batch", b'{"events":[{"eventType":"order.paid","payload":' + NESTED + b"}]}", 400),
    ("/api/v1/events/batch", b'{"events":[' + b'{"eventType":"a.b","payload":1},' * 1000 + b'{"payload":1}]}', 400),
]


@pytest.fixture(autouse=True)
def nothing_is_stored(database: psycopg.Connection) -> Iterator[None]:
    """Each test here leaves as many rows as there were."""
    before = rows(database)
    yield
    assert rows(database) == before


def rows(database: psycopg.Connection) -> tuple[Any, ...] | None:
    return database.execute(
        """SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM idempotency_keys),
                  (SELECT count(*) FROM scheduled), (SELECT count(*) FROM endpoints), (SELECT count(*) FROM lanes),
                  (SELECT count(*) FROM live) + (SELECT count(*) FROM history),
                  (SELECT count(*) FROM secrets WHERE owner_id IN (SELECT id FROM endpoints))"""
    ).fetchone()


@pytest.mark.parametrize(("wrong", "status", "field", "word"), EVENTS, ids=lambda case: str(case)[:30])
def test_a_wrong_event_is_refused_by_each_way_in(
    client: Client, wrong: dict[str, Any], status: int, field: str, word: str
) -> None:
    whole = {**EVENT, **wrong}
    one = client.post("/api/v1/events", whole)
    to_url = client.post("/api/v1/events", {**ONE_URL, **wrong})
    by_graphql = client.ask(SEND, input=whole)
    refusals = [one.error, to_url.error, by_graphql.error, client.ask(CREATE_EVENT, input={**ONE_URL, **wrong}).error]
    (result,) = client.send_batch([whole])
    for refusal in [*refusals, result["error"]]:
        assert (refusal["code"], refusal["field"]) == ("INVALID", field)
        assert word in refusal["message"]
        assert len(refusal["message"]) < 300
    assert (one.status, to_url.status) == (status, status)


@pytest.mark.parametrize(("url", "word"), URLS, ids=[url for url, _ in URLS])
def test_a_url_that_must_not_be_called_is_refused_wherever_it_is_given(client: Client, url: str, word: str) -> None:
    refusals = [
        (client.ask(CREATE_ENDPOINT, input={"url": url, "eventTypes": ["*"]}).error, "url"),
        (client.ask(CREATE_EVENT, input={**ONE_URL, "destination": url}).error, "destination"),
        (client.post("/api/v1/events", {**ONE_URL, "destination": url}).error, "destination"),
    ]
    for refusal, field in refusals:
        assert (refusal["code"], refusal["field"]) == ("INVALID", field)
        assert word in refusal["message"]
        assert "secret" not in refusal["message"]


@pytest.mark.parametrize(("path", "body", "status"), BODIES, ids=[f"{p} {b[:24]!r} {len(b)}" for p, b, _ in BODIES])
def test_a_malformed_body_is_refused(client: Client, path: str, body: bytes, status: int) -> None:
    answer = client.post(path, body)
    assert (answer.status, answer.error["code"]) == (status, "INVALID")
    assert len(answer.body) < 1_000


@pytest.mark.parametrize("key", [None, "", "rly_nobody_has_this_key", "x" * 5_000])
def test_a_missing_or_wrong_key_is_one_and_the_same_refusal(system: System, key: str | None) -> None:
    stranger = Client(system.url, key=key)
    read = b'{"query":"{ events { totalCount } }"}'
    refused = [stranger.post("/graphql", read), *(stranger.post(path, b"no JSON") for path in INTAKE)]
    stranger.close()
    for answer in refused:
        assert (answer.status, answer.error["code"]) == (401, "UNAUTHENTICATED")
        assert answer.headers["www-authenticate"] == "Bearer"
    assert len({answer.error["message"] for answer in refused}) == 1


def test_a_scope_that_is_missing_is_named(system: System) -> None:
    sender = Client(system.url, key=system.new_key("senders-only", "--scopes", "send")["key"])
    answer = sender.ask("{ events { totalCount } }")
    assert (answer.status, answer.error["code"]) == (403, "FORBIDDEN")
    assert "READ" in answer.error["message"]
    sender.close()


def test_after_all_that_the_same_client_is_served(client: Client) -> None:
    assert client.data("{ events { totalCount } }") == {"events": {"totalCount": 0}}
