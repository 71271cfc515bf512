"""Accepting events: keys, lists, and requests for one URL."""

from __future__ import annotations

import asyncio
from typing import Any

from relay.db import Conn
from tests.api.conftest import Api

SEND = """mutation($input: SendEventInput!, $key: String) {
    sendEvent(input: $input, idempotencyKey: $key) { id eventType status } }"""
SEND_ALL = """mutation($inputs: [SendEventInput!]!) { sendEvents(inputs: $inputs) {
    index duplicate event { id } error { code message field } } }"""
CREATE = """mutation($input: CreateEventInput!, $key: String) { createEvent(input: $input, idempotencyKey: $key) {
    id eventType destination maxAttempts attempts deliveredAt status } }"""


def event(**fields: Any) -> dict[str, Any]:
    return {"eventType": "order.paid", "payload": {"order": 1}, **fields}


async def count(conn: Conn) -> int:
    row = await (await conn.execute("SELECT count(*) FROM events")).fetchone()
    assert row is not None
    return row[0]


async def test_the_same_key_gives_the_first_event(api: Api, conn: Conn) -> None:
    first = await api.data(SEND, input=event(), key="k")
    assert await api.data(SEND, input=event(), key="k") == first
    assert await api.data(SEND, input=event(idempotencyKey="k")) == first
    assert await count(conn) == 1


async def test_the_same_key_with_another_request_is_a_conflict(api: Api, conn: Conn) -> None:
    await api.data(SEND, input=event(), key="k")
    assert await api.error(SEND, input=event(payload={"order": 2}), key="k") == ("CONFLICT", "idempotencyKey")
    assert await api.error(SEND, input=event(idempotencyKey="a"), key="b") == ("INVALID", "idempotencyKey")
    assert await count(conn) == 1


async def test_a_key_used_by_many_at_once_makes_one_event(api: Api, conn: Conn) -> None:
    answers = await asyncio.gather(*(api.data(SEND, input=event(), key="k") for _ in range(20)))
    assert len({answer["sendEvent"]["id"] for answer in answers}) == 1
    assert await count(conn) == 1


async def test_each_item_of_a_list_is_accepted_or_refused_on_its_own(api: Api, conn: Conn) -> None:
    inputs = [
        event(),
        event(priority=11),
        event(idempotencyKey="k"),
        event(idempotencyKey="k"),
        event(eventType="relay.x"),
    ]
    results = (await api.data(SEND_ALL, inputs=inputs))["sendEvents"]
    assert [result["index"] for result in results] == [0, 1, 2, 3, 4]
    assert [bool(result["event"]) for result in results] == [True, False, True, True, False]
    assert [(result["error"] or {}).get("field") for result in results] == [None, "priority", None, None, "eventType"]
    assert [result["duplicate"] for result in results] == [False, False, False, True, False]
    assert results[2]["event"] == results[3]["event"]
    assert await count(conn) == 2


async def test_the_order_of_a_list_is_kept(api: Api, conn: Conn) -> None:
    inputs = [event(payload=n) for n in range(700)]
    results = (await api.data(SEND_ALL, inputs=inputs))["sendEvents"]
    rows = await conn.execute("SELECT e.id, e.payload FROM outbox o JOIN events e ON e.id = o.event_id ORDER BY o.n")
    stored = [(str(row[0]), int(bytes(row[1]))) for row in await rows.fetchall()]
    assert stored == [(result["event"]["id"], result["index"]) for result in results]


async def test_too_long_a_list_is_refused_whole(api: Api, conn: Conn) -> None:
    assert (await api.error(SEND_ALL, inputs=[event()] * 1001))[0] == "INVALID"
    rest = await api.post("/api/v1/events/batch", {"events": [event()] * 1001})
    assert rest.status_code == 400
    assert await count(conn) == 0


async def test_an_event_for_one_url_needs_no_endpoint(api: Api, conn: Conn) -> None:
    input = {"destination": "http://127.0.0.1:9999/hook", "payload": [1], "maxAttempts": 3}
    first = (await api.data(CREATE, input=input, key="k"))["createEvent"]
    assert (first["destination"], first["maxAttempts"], first["eventType"]) == (input["destination"], 3, None)
    assert (first["status"], first["attempts"], first["deliveredAt"]) == ("QUEUED", 0, None)
    assert (await api.data(CREATE, input=input, key="k"))["createEvent"]["id"] == first["id"]
    assert (await api.data(CREATE, input={**input, "maxAttempts": None}))["createEvent"]["maxAttempts"] == 11
    assert (await api.data("{ endpoints { totalCount } }"))["endpoints"]["totalCount"] == 0
    row = await (await conn.execute("SELECT count(*) FROM endpoints WHERE kind = 'adhoc'")).fetchone()
    assert row == (1,)


async def test_a_refused_event_leaves_no_hidden_endpoint(api: Api, conn: Conn) -> None:
    input = {"destination": "http://127.0.0.1:9999/hook", "payload": [1]}
    assert await api.error(CREATE, input={**input, "priority": 0}) == ("INVALID", "priority")
    assert await api.error(CREATE, input={**input, "maxAttempts": 102}) == ("INVALID", "maxAttempts")
    assert await api.error(CREATE, input={**input, "destination": "http://10.0.0.1/"}) == ("INVALID", "destination")
    row = await (await conn.execute("SELECT count(*) FROM endpoints")).fetchone()
    assert row == (0,)


async def test_rest_answers_202_and_200_for_a_repeated_key(api: Api, conn: Conn) -> None:
    first = await api.post("/api/v1/events", event(), Idempotency_Key="k")
    assert first.status_code == 202
    assert set(first.json) == {"id", "status", "createdAt"}
    again = await api.post("/api/v1/events", event(), Idempotency_Key="k")
    assert (again.status_code, again.json) == (200, first.json)
    other = await api.post("/api/v1/events", event(payload=2), Idempotency_Key="k")
    assert (other.status_code, other.json["error"]["code"]) == (409, "CONFLICT")
    twice = await api.post("/api/v1/events", event(idempotencyKey="a"), Idempotency_Key="k")
    assert (twice.status_code, twice.json["error"]["field"]) == (400, "idempotencyKey")
    assert await count(conn) == 1


async def test_what_is_not_json_comes_and_is_shown_as_base64_and_stored_as_its_bytes(api: Api, conn: Conn) -> None:
    given = event(payload="PGEvPg==", contentType="application/xml")
    query = "mutation($i: SendEventInput!) { sendEvent(input: $i) { payload contentType } }"
    sent = (await api.data(query, i=given))["sendEvent"]
    assert sent == {"payload": "PGEvPg==", "contentType": "application/xml"}
    assert (await api.post("/api/v1/events", given)).status_code == 202
    assert (await api.post("/api/v1/events/batch", {"events": [given]})).status_code == 200
    stored = await (await conn.execute("SELECT payload, content_type FROM events")).fetchall()
    assert [(bytes(payload), kind) for payload, kind in stored] == [(b"<a/>", "application/xml")] * 3
    for wrong in ("<a/>", {"a": 1}, 17):
        assert await api.error(query, i={**given, "payload": wrong}) == ("INVALID", "payload")
        assert (await api.post("/api/v1/events", {**given, "payload": wrong})).json["error"]["field"] == "payload"


async def test_a_rest_batch_answers_in_order(api: Api, conn: Conn) -> None:
    events = [event(), event(priority=0), {"destination": "http://127.0.0.1:9999/", "payload": 1}, event(colour="red")]
    answer = await api.post("/api/v1/events/batch", {"events": events})
    assert answer.status_code == 200
    results = answer.json["results"]
    assert ["id" in result for result in results] == [True, False, True, False]
    assert [result.get("error", {}).get("field") for result in results] == [None, "priority", None, "colour"]
    assert results[1]["error"]["code"] == "INVALID"
    assert await count(conn) == 2


async def test_an_event_for_nobody_says_so(api: Api, conn: Conn) -> None:
    sent = (await api.data(SEND, input=event()))["sendEvent"]
    query = "query($id: ID!) { explainEvent(id: $id) { why matched recorded endpoint { url } delivery { id } } }"
    assert (await api.data(query, id=sent["id"]))["explainEvent"] == []
    create = "mutation($i: CreateEndpointInput!) { createEndpoint(input: $i) { endpoint { id } } }"
    await api.data(create, i={"url": "http://127.0.0.1:9999/", "eventTypes": ["invoice.*"]})
    (decision,) = (await api.data(query, id=sent["id"]))["explainEvent"]
    assert (decision["why"], decision["matched"], decision["recorded"]) == ("TYPE_NOT_SUBSCRIBED", False, False)
    assert decision["endpoint"] == {"url": "http://127.0.0.1:9999/"}
