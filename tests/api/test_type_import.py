"""Event types out of an OpenAPI document, by API."""

from __future__ import annotations

from typing import Any

from relay.db import Conn
from tests.api.conftest import Api
from tests.api.test_event_types import make
from tests.api.test_sending import SEND, event
from tests.catalog.test_openapi import ORDER, document, hook
from tests.delivery.crew import rows

IMPORT = """mutation($d: JSON!, $dry: Boolean) { importEventTypes(document: $d, dryRun: $dry) {
    created updated unchanged refused { code message field } } }"""
TYPES = "{ eventTypes { nodes { name description schemaVersion revision } } }"
HOOKS = {"order.paid": hook(ORDER, summary="Paid"), "order.sent": hook(ORDER), "order.lost": hook()}
SCHEMAS = {"Order": {"type": "object", "properties": {"id": {"type": "string"}}}}
SHOP = document(HOOKS, schemas=SCHEMAS)


async def imported(api: Api, shop: Any, *, dry: bool = False) -> tuple[list[str], ...]:
    answer = (await api.data(IMPORT, d=shop, dry=dry))["importEventTypes"]
    return answer["created"], answer["updated"], answer["unchanged"], [one["field"] for one in answer["refused"]]


async def test_three_webhooks_are_made_once_and_then_unchanged(api: Api, conn: Conn) -> None:
    names = list(HOOKS)
    assert await imported(api, SHOP, dry=True) == (names, [], [], [])
    assert await rows(conn, "SELECT count(*) FROM event_types") == [(0,)]
    assert await imported(api, SHOP) == (names, [], [], [])
    assert await api.error(SEND, input=event(payload={"id": 1})) == ("INVALID", "payload")
    assert await imported(api, SHOP) == ([], [], names, [])
    later = SHOP | {"info": {"version": "8"}}
    assert await imported(api, later) == ([], [], names, [])
    audited = "SELECT count(*), count(DISTINCT subject_id) FROM audit_log WHERE action = 'importEventTypes'"
    assert await rows(conn, audited) == [(3, 3)]
    changed = later | {"components": {"schemas": {"Order": {"type": "object"}}}}
    assert await imported(api, changed, dry=True) == ([], names[:2], names[2:], [])
    assert await imported(api, changed) == ([], names[:2], names[2:], [])
    found = {one["name"]: one for one in (await api.data(TYPES))["eventTypes"]["nodes"]}
    assert found["order.paid"] == {"name": "order.paid", "description": "Paid", "schemaVersion": "8", "revision": 2}
    assert (found["order.lost"]["revision"], found["order.lost"]["schemaVersion"]) == (0, None)
    assert (await api.data(SEND, input=event(payload={"id": 1})))["sendEvent"]["id"]


async def test_what_a_document_does_not_say_stays(api: Api) -> None:
    await make(api, "order.lost", description="Mine", redactPaths=["$.a"])
    mixed = document({"order.lost": hook(), "a b": hook(), "far": hook({"$ref": "https://shop.example/x"})})
    assert await imported(api, mixed) == ([], [], ["order.lost"], ["webhooks.a b", "webhooks.far"])
    assert await imported(api, document({"order.lost": hook({"type": "object"})})) == ([], ["order.lost"], [], [])
    (found,) = (await api.data("{ eventTypes { nodes { description redactPaths schema } } }"))["eventTypes"]["nodes"]
    assert found == {"description": "Mine", "redactPaths": ["$.a"], "schema": {"type": "object"}}
    assert await api.error(IMPORT, d={"openapi": "3.0.0"}) == ("INVALID", "document")
