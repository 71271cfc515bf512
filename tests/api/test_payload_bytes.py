"""What is stored, sent and shown is byte for byte what the producer wrote."""

from __future__ import annotations

import msgspec
import pytest

from relay.db import Conn
from tests.api.conftest import Api

ODD = [
    b"1e2",
    b"12345678901234567890123",
    b'"\\u00e9"',
    '"é"'.encode(),
    b'{ "b" : 1,\n  "a":[1.0,  2.50, {"b":1, "a":2}] }',
    b"[ ]",
    b"false",
]
SEND = b'{"query":"mutation($input: SendEventInput!) { sendEvent(input: $input) { id payload } }","variables":'
LIST = (
    b'{"query":"mutation($i: [SendEventInput!]!) { sendEvents(inputs: $i) { event { id payload } error { code } } }",'
    b'"variables":'
)
INLINE = (
    b'{"query":"mutation($payload: JSON!) { sendEvent(input: {eventType: \\"a.b\\", payload: $payload}) { id payload } }",'
    b'"variables":'
)
CREATE = b'{"query":"mutation($i: CreateEventInput!) { createEvent(input: $i) { id payload } }","variables":'


async def stored(conn: Conn) -> list[bytes]:
    rows = await conn.execute("SELECT payload FROM events ORDER BY id")
    return [bytes(row[0]) for row in await rows.fetchall()]


@pytest.mark.parametrize(
    "body",
    [
        SEND + b'{ "input": {"eventType":"a.b", "payload": %s }}}',
        LIST + b'{"i": [ {"payload":%s,"eventType":"a.b"} ]}}',
        INLINE + b'{"payload" : %s}}',
        CREATE + b'{"i":{"destination":"http://127.0.0.1:9999/","payload":%s}}}',
    ],
    ids=["input variable", "inputs variable", "payload variable", "createEvent"],
)
async def test_a_graphql_variable_keeps_its_bytes_and_reads_back_the_same(api: Api, conn: Conn, body: bytes) -> None:
    for payload in ODD:
        answer = await api.post("/graphql", body.replace(b"%s", payload))
        assert b'"errors"' not in answer.content
        assert b'"payload":' + payload in answer.content
        again = await api.post("/graphql", {"query": "{ events(first: 1) { nodes { payload } } }"})
        assert again.content == b'{"data":{"events":{"nodes":[{"payload":' + payload + b"}]}}}"
    assert await stored(conn) == ODD


async def test_rest_keeps_the_bytes(api: Api, conn: Conn) -> None:
    for payload in ODD:
        one = b'{"eventType": "a.b", "payload" : ' + payload + b" }"
        assert (await api.post("/api/v1/events", one)).status_code == 202
        assert (await api.post("/api/v1/events/batch", b'{"events":[' + one + b"," + one + b"]}")).status_code == 200
    assert await stored(conn) == [payload for payload in ODD for _ in range(3)]


async def test_a_literal_is_compact_json_in_the_order_written(api: Api, conn: Conn) -> None:
    query = 'mutation { sendEvent(input: {eventType: "a.b", payload: {b: 1e2, a: [ 12345678901234567890123 , "é" ]}}) { id } }'
    await api.data(query)
    assert await stored(conn) == ['{"b":1e2,"a":[12345678901234567890123,"é"]}'.encode()]


async def test_a_top_level_null_is_no_payload(api: Api, conn: Conn) -> None:
    for body in (
        SEND + b'{"input": {"eventType":"a.b","payload":null}}}',
        INLINE + b'{"payload":null}}',
        b'{"query":"mutation { sendEvent(input: {eventType: \\"a.b\\", payload: null}) { id } }"}',
    ):
        answer = await api.post("/graphql", body)
        assert answer.status_code == 400
        assert [error["extensions"]["code"] for error in answer.json["errors"]] == ["INVALID"]
    rest = await api.post("/api/v1/events", b'{"eventType":"a.b","payload": null}')
    assert (rest.status_code, rest.json["error"]["field"]) == (400, "payload")
    missing = await api.post("/api/v1/events", b'{"eventType":"a.b"}')
    assert (missing.status_code, missing.json["error"]["field"]) == (400, "payload")
    assert await stored(conn) == []


async def test_a_payload_that_is_not_json_comes_and_goes_as_base64(api: Api, conn: Conn) -> None:
    input = {"eventType": "a.b", "payload": "AAEC/w==", "contentType": "application/octet-stream"}
    query = "mutation($i: SendEventInput!) { sendEvent(input: $i) { payload contentType } }"
    assert (await api.data(query, i=input))["sendEvent"]["payload"] == "AAEC/w=="
    assert await stored(conn) == [b"\x00\x01\x02\xff"]
    shown = (await api.data("{ events { nodes { payload contentType } } }"))["events"]["nodes"]
    assert shown == [{"payload": "AAEC/w==", "contentType": "application/octet-stream"}]


async def test_what_was_sent_is_shown(api: Api) -> None:
    input = {
        "eventType": "order.paid",
        "payload": {"a": 1},
        "headers": {"X-One": "1"},
        "priority": 2,
        "subject": "customer/7",
        "idempotencyKey": "k1",
        "deliverAt": "2999-01-01T00:00:00Z",
    }
    fields = "eventType payload headers priority subject idempotencyKey status createdAt scheduledAt contentType"
    query = f"mutation($i: SendEventInput!) {{ sendEvent(input: $i) {{ id {fields} }} }}"
    assert await api.error(query, i=input) == ("INVALID", "deliverAt")
    sent = (await api.data(query, i={**input, "deliverAt": None, "delaySeconds": 3600}))["sendEvent"]
    id = sent.pop("id")
    assert sent["status"] == "QUEUED"
    assert sent["scheduledAt"] > sent["createdAt"]
    assert (await api.data(f'{{ event(id: "{id}") {{ {fields} }} }}'))["event"] == sent
    assert msgspec.json.encode(sent["payload"]) == b'{"a":1}'
