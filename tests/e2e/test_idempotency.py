"""One key is one event, however many ask at once and whichever process answers."""

from __future__ import annotations

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from uuid import uuid4

import psutil
import psycopg

from tests.e2e.client import Answer, Client
from tests.e2e.conftest import NewClient
from tests.e2e.system import System

AT_ONCE = 100
CLIENTS = 32
ROUNDS = 3
KEYS = [f"key-{n}" for n in range(60)]
SEND = """mutation($input: SendEventInput!, $key: String) {
  sendEvent(input: $input, idempotencyKey: $key) { id } }"""
SEND_MANY = """mutation($inputs: [SendEventInput!]!) {
  sendEvents(inputs: $inputs) { index event { id } error { code field } duplicate } }"""
TOTAL = "{ events { totalCount } }"


def event(payload: Any = 1, **fields: Any) -> dict[str, Any]:
    return {"eventType": "order.paid", "payload": payload, **fields}


def total(client: Client) -> int:
    return client.data(TOTAL)["events"]["totalCount"]


def web_processes_with_a_connection(system: System) -> int:
    """How many web processes a client talks to right now."""
    (master,) = system.masters("gunicorn")
    return sum(
        any(connection.status == psutil.CONN_ESTABLISHED and connection.laddr.port == system.port for connection in of)
        for of in (worker.net_connections() for worker in master.children())
    )


def test_a_hundred_requests_at_once_with_one_key_are_one_event(system: System, client: Client) -> None:
    together = Barrier(AT_ONCE)

    def send(_: int) -> Answer:
        together.wait(10)
        return client.post("/api/v1/events", event(), Idempotency_Key="one")

    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(send, range(AT_ONCE)))
    assert web_processes_with_a_connection(system) == 2
    assert Counter(answer.status for answer in answers) == {202: 1, 200: AT_ONCE - 1}
    assert len({answer.json["id"] for answer in answers}) == 1
    assert total(client) == 1


def test_another_request_with_a_known_key_is_a_conflict(client: Client) -> None:
    first = client.data(SEND, input=event(), key="one")["sendEvent"]
    assert client.data(SEND, input=event(), key="one")["sendEvent"] == first
    assert client.data(SEND, input=event(idempotencyKey="one"))["sendEvent"] == first
    for other in (event(2), event(priority=1), {**event(), "eventType": "order.lost"}, event(delaySeconds=60)):
        assert client.ask(SEND, input=other, key="one").error["code"] == "CONFLICT"
        refused = client.post("/api/v1/events", other, Idempotency_Key="one")
        assert (refused.status, refused.error["code"]) == (409, "CONFLICT")
    assert total(client) == 1


def test_a_key_twice_in_one_list_is_one_event(client: Client) -> None:
    inputs = [event(idempotencyKey="a"), event(idempotencyKey="a"), event(2, idempotencyKey="a"), event()]
    first, again, other, unkeyed = client.data(SEND_MANY, inputs=inputs)["sendEvents"]
    assert (first["duplicate"], again["duplicate"]) == (False, True)
    assert first["event"] == again["event"]
    assert (other["event"], other["error"]["code"]) == (None, "CONFLICT")
    assert unkeyed["error"] is None
    results = client.send_batch(inputs)
    assert [result.get("id") for result in results[:2]] == [first["event"]["id"]] * 2
    assert results[2]["error"]["code"] == "CONFLICT"
    assert total(client) == 3


def test_keys_are_a_clients_own(client: Client, new_client: NewClient) -> None:
    other = new_client()
    first = client.post("/api/v1/events", event(), Idempotency_Key="one")
    second = other.post("/api/v1/events", event(2), Idempotency_Key="one")
    assert (first.status, second.status) == (202, 202)
    assert first.json["id"] != second.json["id"]


def test_after_24_hours_a_key_is_a_new_event(client: Client, database: psycopg.Connection) -> None:
    key = f"old-{uuid4().hex}"
    first = client.post("/api/v1/events", event(), Idempotency_Key=key)
    lasts = database.execute(
        "SELECT round(extract(epoch FROM expires_at - now()) / 3600)::int FROM idempotency_keys WHERE key = %s", (key,)
    ).fetchone()
    assert lasts == (24,)
    database.execute("UPDATE idempotency_keys SET expires_at = now() - interval '1 second' WHERE key = %s", (key,))
    second = client.post("/api/v1/events", event(2), Idempotency_Key=key)
    assert (first.status, second.status) == (202, 202)
    assert first.json["id"] != second.json["id"]
    again = client.post("/api/v1/events", event(2), Idempotency_Key=key)
    assert (again.status, again.json["id"]) == (200, second.json["id"])


def test_many_clients_with_overlapping_lists_of_keys_get_one_event_per_key(client: Client) -> None:
    def send(seed: int) -> list[tuple[str, str]]:
        source, found = random.Random(seed), list[tuple[str, str]]()
        for _ in range(ROUNDS):
            keys = source.sample(KEYS, 40)
            results = client.send_batch([event(idempotencyKey=key) for key in keys])
            found += [(key, result["id"]) for key, result in zip(keys, results, strict=True)]
        return found

    with ThreadPoolExecutor(CLIENTS) as pool:
        pairs = {pair for pairs in pool.map(send, range(CLIENTS)) for pair in pairs}
    assert len(pairs) == len(KEYS)
    assert total(client) == len(KEYS)
