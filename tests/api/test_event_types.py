"""Event types: described, refused when unknown, and shown with blanks."""

from __future__ import annotations

import time
from typing import Any

from falcon.testing import ASGIConductor

from api.app import create_app
from relay.db import Conn
from relay.settings import Settings
from relay.tenancy.scopes import Scope
from tests.api.conftest import Api, make_key
from tests.api.test_sending import SEND, SEND_ALL, event
from tests.delivery.crew import rows
from tests.running import until_so

FIELDS = "{ id name description redactPaths createdAt updatedAt }"
MAKE = f"mutation($i: CreateEventTypeInput!) {{ createEventType(input: $i) {FIELDS} }}"
CHANGE = f"mutation($id: ID!, $i: UpdateEventTypeInput!) {{ updateEventType(id: $id, input: $i) {FIELDS} }}"
DELETE = "mutation($id: ID!) { deleteEventType(id: $id) }"
BY_ID = f"query($id: ID!) {{ eventType(id: $id) {FIELDS} }}"
BY_NAME = f"query($n: String!) {{ eventTypeByName(name: $n) {FIELDS} }}"
SHOWN = "query($id: ID!) { event(id: $id) { payload deliveries { event { payload } } } events { nodes { payload } } }"
CREATE = 'mutation { createEvent(input: {destination: "http://127.0.0.1:9999/", payload: 1}) { id } }'


async def make(api: Api, name: str = "order.paid", **fields: Any) -> dict[str, Any]:
    return (await api.data(MAKE, i={"name": name, **fields}))["createEventType"]


async def test_a_type_is_made_changed_found_and_deleted(api: Api) -> None:
    made = await make(api, description="An order", redactPaths=["$.card", "$.card"])
    assert (made["description"], made["redactPaths"]) == ("An order", ["$.card"])
    await make(api, "order.sent")
    listed = await api.data(f"{{ eventTypes(first: 1) {{ nodes {FIELDS} totalCount pageInfo {{ hasNextPage }} }} }}")
    assert [one["name"] for one in listed["eventTypes"]["nodes"]] == ["order.sent"]
    assert (listed["eventTypes"]["totalCount"], listed["eventTypes"]["pageInfo"]) == (2, {"hasNextPage": True})
    changed = (await api.data(CHANGE, id=made["id"], i={"description": None}))["updateEventType"]
    assert (changed["description"], changed["redactPaths"]) == (None, ["$.card"])
    assert (await api.data(BY_ID, id=made["id"]))["eventType"] == changed
    assert (await api.data(BY_NAME, n="order.paid"))["eventTypeByName"] == changed
    assert (await api.data(CHANGE, id=made["id"], i={"redactPaths": None}))["updateEventType"]["redactPaths"] == []
    assert (await api.data(DELETE, id=made["id"]))["deleteEventType"] is True
    assert (await api.data(BY_ID, id=made["id"]))["eventType"] is None
    assert await api.error(DELETE, id=made["id"]) == ("NOT_FOUND", None)


async def test_what_is_wrong_with_a_type_is_named(api: Api) -> None:
    await make(api)
    assert await api.error(MAKE, i={"name": "order.paid"}) == ("CONFLICT", "name")
    for name in ("relay.x", "a..b", "order.*", ""):
        assert await api.error(MAKE, i={"name": name}) == ("INVALID", "name")
    for path in ("card", "$[", "$.a[?@.b == 1]", "$." + "a" * 300):
        answer = await api.graphql(MAKE, {"i": {"name": "a.b", "redactPaths": ["$.fine", path]}})
        (error,) = answer["errors"]
        assert error["extensions"]["field"] == "redactPaths"
        assert path[:40] in error["message"]
    assert await api.error(MAKE, i={"name": "a.b", "redactPaths": ["$.a"] * 51}) == ("INVALID", "redactPaths")
    for query, fields in ((CHANGE, {"i": {}}), (DELETE, {})):
        assert (await api.error(query, id="nonsense", **fields))[0] == "NOT_FOUND"
    assert (await api.data(BY_NAME, n="a\0"))["eventTypeByName"] is None


async def test_a_clients_types_are_its_own(locked: Api, conn: Conn, settings: Settings) -> None:
    mine, other = [Api(locked.conductor, await make_key(conn, settings, client=name)) for name in ("mine", "other")]
    made = await make(mine, redactPaths=["$.a"])
    assert (await other.data(BY_ID, id=made["id"]))["eventType"] is None
    assert (await other.data(BY_NAME, n="order.paid"))["eventTypeByName"] is None
    assert (await other.error(CHANGE, id=made["id"], i={}))[0] == "NOT_FOUND"
    assert (await other.error(DELETE, id=made["id"]))[0] == "NOT_FOUND"
    sent = await other.data(
        "mutation($i: SendEventInput!) { sendEvent(input: $i) { payload } }", i=event(payload={"a": 1})
    )
    assert sent["sendEvent"]["payload"] == {"a": 1}
    reader = Api(locked.conductor, await make_key(conn, settings, client="mine", scopes=frozenset({Scope.READ})))
    assert (await reader.error(MAKE, i={"name": "a.b"}))[0] == "FORBIDDEN"


async def test_a_refused_type_is_refused_at_every_intake_and_leaves_nothing(api: Api, conn: Conn) -> None:
    await make(api, "order.sent")
    await rows(conn, "UPDATE tenants SET unknown_event_types = 'refuse' RETURNING 1")
    other = (await make(api, "order.made"))["name"]  # whose refresh this process waits for
    assert await api.error(SEND, input=event()) == ("INVALID", "eventType")
    assert await api.error(SEND, input=event(delaySeconds=60)) == ("INVALID", "eventType")
    answer = await api.post("/api/v1/events", event())
    assert (answer.status_code, answer.json["error"]["field"]) == (400, "eventType")
    assert "order.made, order.sent" in answer.json["error"]["message"]
    batch = (await api.post("/api/v1/events/batch", {"events": [event(), event(eventType=other)]})).json["results"]
    assert [batch[0]["error"]["field"], "id" in batch[1]] == ["eventType", True]
    results = (await api.data(SEND_ALL, inputs=[event(), event(eventType=other)]))["sendEvents"]
    assert [(one["error"] or {}).get("field") for one in results] == ["eventType", None]
    assert (await api.data(CREATE))["createEvent"]["id"]
    assert await rows(conn, "SELECT count(*) FROM events WHERE type = 'order.paid'") == [(0,)]


async def test_a_change_holds_in_every_web_process_within_two_seconds(settings: Settings, conn: Conn) -> None:
    async with ASGIConductor(create_app(settings)) as here, ASGIConductor(create_app(settings)) as there:
        one, other = Api(here), Api(there)
        await other.data(SEND, input=event())
        await rows(conn, "UPDATE tenants SET unknown_event_types = 'refuse' RETURNING 1")
        began = time.monotonic()

        async def refused() -> bool:
            answers = [await api.graphql(SEND, {"input": event()}) for api in (one, other)]
            return all("errors" in answer for answer in answers)

        await until_so(refused, 5)
        assert time.monotonic() - began < 2
        await make(one)

        async def accepted() -> bool:
            return "errors" not in await other.graphql(SEND, {"input": event()})

        began = time.monotonic()
        await until_so(accepted, 5)
        assert time.monotonic() - began < 2


async def test_blanked_places_are_not_shown_and_are_stored(api: Api, conn: Conn) -> None:
    await make(api, redactPaths=["$.card.number"])
    payload = '{"card": {"number": "4111", "year": 2030}, "sum": 1e2}'
    shown = '{"card":{"number":"[redacted]","year":2030},"sum":1e2}'
    body = '{"eventType": "order.paid", "payload": ' + payload + "}"
    id = (await api.post("/api/v1/events", body)).json["id"]
    answer = await api.post("/graphql", {"query": SHOWN, "variables": {"id": id}})
    assert answer.text.count(shown) == 2
    assert "4111" not in answer.text
    assert await rows(conn, "SELECT convert_from(payload, 'utf8') FROM events") == [(payload,)]


async def test_a_payload_that_is_no_json_is_hidden_whole(api: Api) -> None:
    await make(api, redactPaths=["$.a"])
    query = "mutation($i: SendEventInput!) { sendEvent(input: $i) { payload contentType } }"
    sent = (await api.data(query, i=event(payload="aGVsbG8=", contentType="text/plain")))["sendEvent"]
    assert sent == {"payload": "[redacted]", "contentType": "text/plain"}
