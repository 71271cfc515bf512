"""Schemas of event types by API: kept as they were written, in revisions, and held against what comes in."""

from __future__ import annotations

import socket
import time
from typing import Any

import msgspec
import pytest
from falcon.testing import ASGIConductor

from api.app import create_app
from relay.db import Conn, Database
from relay.settings import Settings
from tests.api.conftest import Api, make_key
from tests.api.test_event_types import CREATE
from tests.api.test_sending import SEND, SEND_ALL, event
from tests.delivery.crew import rows
from tests.running import until_so

FIELDS = """{ id name schema schemaVersion revision
    revisions { revision schema schemaVersion createdAt } redactPaths updatedAt }"""
MAKE = f"mutation($i: CreateEventTypeInput!) {{ createEventType(input: $i) {FIELDS} }}"
CHANGE = f"mutation($id: ID!, $i: UpdateEventTypeInput!) {{ updateEventType(id: $id, input: $i) {FIELDS} }}"
DELETE = "mutation($id: ID!) { deleteEventType(id: $id) }"
LIST = f"{{ eventTypes {{ nodes {FIELDS} }} }}"
AMOUNT = {"type": "object", "properties": {"amount": {"type": "number"}, "id": {"type": "string"}}}
GOOD = {"amount": 1.5, "id": "a"}
BAD = {"amount": "much", "id": 7}


async def make(api: Api, name: str = "order.paid", **fields: Any) -> dict[str, Any]:
    return (await api.data(MAKE, i={"name": name, **fields}))["createEventType"]


async def change(api: Api, id: str, **fields: Any) -> dict[str, Any]:
    return (await api.data(CHANGE, id=id, i=fields))["updateEventType"]


async def test_each_change_of_schema_is_a_revision_and_all_are_kept(api: Api) -> None:
    made = await make(api, schema=AMOUNT, schemaVersion="1.0")
    assert (made["revision"], made["schema"], made["schemaVersion"]) == (1, AMOUNT, "1.0")
    same = await change(api, made["id"], schema=dict(reversed(AMOUNT.items())), redactPaths=["$.a"])
    assert (same["revision"], len(same["revisions"]), same["redactPaths"]) == (1, 1, ["$.a"])
    second = await change(api, made["id"], schema={"type": "object"}, schemaVersion="2.0")
    labelled = await change(api, made["id"], schemaVersion="2.1")
    assert (second["revision"], labelled["revision"], labelled["schema"]) == (2, 2, {"type": "object"})
    cleared = await change(api, made["id"], schema=None)
    assert (cleared["revision"], cleared["schema"]) == (3, None)
    assert [(one["revision"], one["schema"], one["schemaVersion"]) for one in cleared["revisions"]] == [
        (3, None, "2.1"),
        (2, {"type": "object"}, "2.1"),
        (1, AMOUNT, "1.0"),
    ]
    assert all(one["createdAt"] for one in cleared["revisions"])
    plain = await make(api, "order.sent")
    assert (plain["revision"], plain["revisions"], plain["schema"]) == (0, [], None)
    assert {one["name"]: one["revision"] for one in (await api.data(LIST))["eventTypes"]["nodes"]} == {
        "order.paid": 3,
        "order.sent": 0,
    }
    assert (await api.data(DELETE, id=made["id"]))["deleteEventType"]


async def test_a_schema_is_shown_as_it_was_written(api: Api) -> None:
    text = '{ "type":"object", "maximum": 1.50e1, "title": "Größe" }'
    body = (
        f'{{"query": {msgspec.json.encode(MAKE).decode()}, "variables": {{"i": {{"name": "a.b", "schema": {text}}}}}}}'
    )
    answer = await api.post("/graphql", body)
    assert answer.text.count(text) == 2
    inline = 'mutation { createEventType(input: {name: "a.c", schema: {type: "object"}}) { schema } }'
    assert (await api.data(inline))["createEventType"]["schema"] == {"type": "object"}


async def test_a_schema_that_cannot_be_used_is_refused_with_its_place_and_leaves_nothing(api: Api, conn: Conn) -> None:
    made = await make(api, "order.sent", schema=AMOUNT)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/x"
        for schema, place in (
            ({"properties": {"a": {"$ref": url}}}, "$.properties.a.$ref"),
            ({"properties": {"a": {"type": "strin"}}}, "$.properties.a.type"),
            ({"pattern": "(?=a)(a+)+$"}, "$.pattern"),
            ("text", "must be an object"),
            ({"a": "x" * 10_000_000}, "the limit is"),
        ):
            began = time.monotonic()
            for query, variables in ((MAKE, {"i": {"name": "a.b", "schema": schema}}), (CHANGE, None)):
                answer = await api.graphql(query, variables or {"id": made["id"], "i": {"schema": schema}})
                (error,) = answer["errors"]
                assert (error["extensions"]["code"], error["extensions"]["field"]) == ("INVALID", "schema")
                assert place in error["message"]
            assert time.monotonic() - began < 5
        with pytest.raises(TimeoutError):
            server.accept()
    assert await rows(conn, "SELECT name, revision FROM event_types") == [("order.sent", 1)]
    assert await api.error(MAKE, i={"name": "a.b", "schemaVersion": ""}) == ("INVALID", "schemaVersion")


async def test_a_payload_that_does_not_fit_is_refused_at_every_intake_with_every_place(api: Api, conn: Conn) -> None:
    await make(api, schema=AMOUNT)
    bad, good = event(payload=BAD), event(payload=GOOD)
    assert await api.error(SEND, input=bad) == ("INVALID", "payload")
    assert await api.error(SEND, input={**bad, "delaySeconds": 60}) == ("INVALID", "payload")
    assert await api.error(SEND, input=event(payload="aGk=", contentType="text/plain")) == ("INVALID", "contentType")
    answer = await api.post("/api/v1/events", bad)
    assert answer.status_code == 400
    assert answer.json["error"]["field"] == "payload"
    assert "revision 1" in answer.json["error"]["message"]
    batch = (await api.post("/api/v1/events/batch", {"events": [bad, good]})).json["results"]
    results = (await api.data(SEND_ALL, inputs=[bad, good]))["sendEvents"]
    messages = [answer.json["error"]["message"], batch[0]["error"]["message"], results[0]["error"]["message"]]
    assert all("$.amount" in message and "$.id" in message and "much" not in message for message in messages)
    assert ["id" in batch[1], results[1]["error"]] == [True, None]
    assert (await api.data(SEND, input=event(eventType="order.other", payload=BAD)))["sendEvent"]["id"]
    assert (await api.data(CREATE))["createEvent"]["id"]
    assert await rows(conn, "SELECT count(*) FROM events WHERE type = 'order.paid'") == [(2,)]


async def test_a_schema_of_one_client_binds_no_other(locked: Api, conn: Conn, settings: Settings) -> None:
    mine, other = [Api(locked.conductor, await make_key(conn, settings, client=name)) for name in ("mine", "other")]
    await make(mine, schema=AMOUNT)
    assert await mine.error(SEND, input=event(payload=BAD)) == ("INVALID", "payload")
    assert (await other.data(SEND, input=event(payload=BAD)))["sendEvent"]["id"]
    assert (await other.data(LIST))["eventTypes"]["nodes"] == []


async def test_a_change_of_schema_holds_in_every_web_process_within_two_seconds(settings: Settings) -> None:
    async with ASGIConductor(create_app(settings)) as here, ASGIConductor(create_app(settings)) as there:
        one, other = Api(here), Api(there)
        await other.data(SEND, input=event(payload=BAD))
        made = await make(one)
        await change(one, made["id"], schema=AMOUNT)

        async def bound() -> bool:
            return "errors" in await other.graphql(SEND, {"input": event(payload=BAD)})

        began = time.monotonic()
        await until_so(bound, 5)
        assert time.monotonic() - began < 2


async def test_a_schema_is_read_once_for_all_events_of_its_type(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    await make(api, schema=AMOUNT)
    assert await api.error(SEND, input=event(payload=BAD)) == ("INVALID", "payload")
    lent = 0
    connection = Database.connection

    def counting(db: Database) -> Any:
        nonlocal lent
        lent += 1
        return connection(db)

    monkeypatch.setattr(Database, "connection", counting)
    results = (await api.data(SEND_ALL, inputs=[event(payload=BAD)] * 50))["sendEvents"]
    assert all(one["error"]["field"] == "payload" for one in results)
    assert lent <= 2  # the refresh of each second
