"""One client's data is to another as if it had never been."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.e2e.client import Client
from tests.e2e.conftest import NewClient
from tests.e2e.system import COUNTED_S, wait_until
from tests.sink import Sink

LOOK = """query($event: ID!, $delivery: ID!, $endpoint: ID!) {
  event(id: $event) { id } delivery(id: $delivery) { id } endpoint(id: $endpoint) { id }
  explainEvent(id: $event) { why }
  ofEvent: deliveries(filter: {eventId: $event}) { totalCount nodes { id } }
  ofEndpoint: deliveries(filter: {endpointId: $endpoint}) { totalCount nodes { id } }
  toEndpoint: events(filter: {endpointId: $endpoint}) { totalCount nodes { id } }
  explainOne: explainEvent(id: $event, endpointId: $endpoint) { why } }"""
SUMMARY = """{ events { totalCount nodes { id } } deliveries { totalCount nodes { id } }
  endpoints { totalCount nodes { id } } queueStats { queued pending delivered failed dead cancelled delayed } }"""
CHANGES = [
    'mutation($id: ID!) { updateEndpoint(id: $id, input: {description: "mine now"}) { id } }',
    "mutation($id: ID!) { testEndpoint(id: $id) { id } }",
    "mutation($id: ID!) { deleteEndpoint(id: $id) }",
]


@pytest.fixture
def ids(client: Client, sink: Sink) -> dict[str, str]:
    """What one client has: an endpoint, an event that arrived there, and its delivery."""
    endpoint = client.endpoint(sink.url())
    event = client.send("order.paid", {"secret": "of one client"}, idempotencyKey="k")
    wait_until(lambda: client.story(event)["status"] == "DELIVERED", what="the delivery")
    (delivery,) = client.story(event)["deliveries"]
    return {"event": event, "delivery": delivery["id"], "endpoint": endpoint.id}


def test_another_client_sees_what_it_would_see_of_ids_that_never_were(
    client: Client, new_client: NewClient, ids: dict[str, str]
) -> None:
    other = new_client()
    never = {name: str(uuid4()) for name in ids}
    mine: dict[str, Any] = client.data(LOOK, **ids)
    assert all(found for found in mine.values())
    assert other.ask(LOOK, **ids).json == other.ask(LOOK, **never).json
    assert other.data(LOOK, **ids)["event"] is None


def test_lists_and_totals_are_a_clients_own(client: Client, new_client: NewClient, ids: dict[str, str]) -> None:
    def delivered() -> int:
        return client.data(SUMMARY)["queueStats"]["delivered"]

    wait_until(lambda: delivered() == 1, COUNTED_S, what="the counts")
    empty = {"totalCount": 0, "nodes": []}
    assert new_client().data(SUMMARY) == {
        **dict.fromkeys(("events", "deliveries", "endpoints"), empty),
        "queueStats": dict.fromkeys(client.data(SUMMARY)["queueStats"], 0),
    }


@pytest.mark.parametrize("change", CHANGES, ids=["update", "test", "delete"])
def test_another_client_can_change_nothing(
    client: Client, new_client: NewClient, ids: dict[str, str], change: str
) -> None:
    other = new_client()

    def refusal(id: str) -> tuple[str, str]:
        error = other.ask(change, id=id).error
        return error["code"], error["message"].replace(id, "ID")

    assert refusal(ids["endpoint"]) == refusal(str(uuid4()))
    assert refusal(ids["endpoint"])[0] == "NOT_FOUND"
    shown = client.data("query($id: ID!) { endpoint(id: $id) { description status } }", id=ids["endpoint"])
    assert shown == {"endpoint": {"description": None, "status": "ACTIVE"}}


def test_the_same_key_and_the_same_url_do_not_join_clients(client: Client, new_client: NewClient, sink: Sink) -> None:
    other = new_client()
    body = {"destination": sink.url("/shared"), "payload": 1}
    first, second = (one.post("/api/v1/events", body, Idempotency_Key="k") for one in (client, other))
    assert (first.status, second.status) == (202, 202)
    wait_until(lambda: len(sink.arrivals) == 2, what="both")
    assert len({arrival.headers["x-relay-signature"] for arrival in sink.arrivals}) == 2
