"""explainEvent and explain over the API: the same answers, redacted, and refused as sendEvent is."""

from __future__ import annotations

from typing import Any

import pytest

from relay.db import Conn
from tests.api.conftest import Api
from tests.rows import World, make_world

DECISION = (
    "{ endpointId matched why clause found recorded changedSince gate { reason } delivery { id } endpoint { url } }"
)
EVENT = f"query($id: ID!, $endpoint: ID) {{ explainEvent(id: $id, endpointId: $endpoint) {DECISION} }}"
EXPLAIN = f"query($i: ExplainInput!, $e: ID, $n: Int) {{ explain(input: $i, endpointId: $e, first: $n) {DECISION} }}"
FILTER = '{"path": "$.card.number", "eq": "4000"}'
PAYLOAD = {"card": {"number": "4111"}, "total": 1}


async def world_of(conn: Conn) -> World:
    """The one client, as in development, with a filter at its endpoint."""
    world = await make_world(conn, "default")
    await conn.execute("UPDATE endpoints SET filter = %s::json WHERE id = %s", (FILTER, world.endpoint_id))
    return world


async def test_what_the_event_had_is_shown_with_the_types_redact_paths_blanked(api: Api, conn: Conn) -> None:
    world = await world_of(conn)
    send = "mutation($i: SendEventInput!) { sendEvent(input: $i) { id } }"
    sent = (await api.data(send, i={"eventType": "order.paid", "payload": PAYLOAD}))["sendEvent"]["id"]
    await world.fanned_out(sent, matched=0)
    (decision,) = (await api.data(EVENT, id=sent))["explainEvent"]
    assert (decision["why"], decision["clause"]) == ("FILTERED_OUT", {"path": "$.card.number", "eq": "4000"})
    assert (decision["found"], decision["recorded"], decision["changedSince"]) == ("4111", False, False)
    make_type = "mutation($i: CreateEventTypeInput!) { createEventType(input: $i) { id } }"
    await api.data(make_type, i={"name": "order.paid", "redactPaths": ["$.card"]})
    (decision,) = (await api.data(EVENT, id=sent, endpoint=str(world.endpoint_id)))["explainEvent"]
    assert (decision["why"], decision["found"]) == ("FILTERED_OUT", None)


async def test_an_event_that_nobody_sent_is_explained_and_nothing_is_stored(api: Api, conn: Conn) -> None:
    world = await world_of(conn)
    imagined: dict[str, Any] = {"eventType": "order.paid", "payload": PAYLOAD, "headers": {"X-A": "1"}, "priority": 1}
    (decision,) = (await api.data(EXPLAIN, i=imagined))["explain"]
    assert (decision["why"], decision["matched"], decision["found"]) == ("FILTERED_OUT", False, "4111")
    fitting = {**imagined, "payload": {"card": {"number": "4000"}}}
    (decision,) = (await api.data(EXPLAIN, i=fitting, e=str(world.endpoint_id)))["explain"]
    assert decision == {
        "endpointId": str(world.endpoint_id), "matched": True, "why": "MATCHED", "clause": None, "found": None,
        "recorded": False, "changedSince": False, "gate": None, "delivery": None,
        "endpoint": {"url": "http://127.0.0.1:9000/"},
    }  # fmt: skip
    assert (await api.data(EXPLAIN, i=imagined, e="no id"))["explain"] == []
    assert await (await conn.execute("SELECT FROM events")).fetchall() == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"eventType": "order..paid"}, "eventType"),
        ({"eventType": "relay.x"}, "eventType"),
        ({"headers": {"Host": "x"}}, "headers"),
        ({"priority": 11}, "priority"),
    ],
)
async def test_what_send_event_refuses_is_refused(api: Api, change: dict[str, Any], field: str) -> None:
    given = {"eventType": "order.paid", "payload": {}, **change}
    answer = await api.post("/graphql", {"query": EXPLAIN, "variables": {"i": given}})
    (error,) = answer.json["errors"]
    assert (error["extensions"]["code"], error["extensions"]["field"]) == ("INVALID", field)
