"""One event for hundreds of endpoints at once, and filters on the way to them."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from tests.e2e.client import Client
from tests.e2e.conftest import NewClient
from tests.e2e.system import wait_until
from tests.sink import Sink

ENDPOINTS = 200
UPDATE = "mutation($id: ID!, $input: UpdateEndpointInput!) { updateEndpoint(id: $id, input: $input) { id } }"


def test_one_event_reaches_each_of_hundreds_of_endpoints_once(new_client: NewClient, sink: Sink) -> None:
    client = new_client()
    paths = [f"/many/{n}" for n in range(ENDPOINTS)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda path: client.endpoint(sink.url(path), filter={"path": "$.n", "gte": 1}), paths))
    kept_out = client.post("/api/v1/events", {"eventType": "order.paid", "payload": {"n": 0}}).json["id"]
    sent = client.post("/api/v1/events", {"eventType": "order.paid", "payload": {"n": 1}}).json["id"]
    wait_until(lambda: len(sink.arrivals) >= ENDPOINTS, 60, what="all arrivals")
    assert sink.by_path() == Counter(paths)
    assert set(sink.events()) == {sent}
    assert status_of(client, kept_out) == "UNMATCHED"
    wait_until(lambda: status_of(client, sent) == "DELIVERED", what="the end")


def status_of(client: Client, id: str) -> str:
    return client.data("query($id: ID!) { event(id: $id) { status } }", id=id)["event"]["status"]


def test_a_changed_subscription_or_filter_holds_within_two_seconds(new_client: NewClient, sink: Sink) -> None:
    client = new_client()
    endpoint = client.endpoint(sink.url("/changed"), eventTypes=["order.paid"])
    changes = (
        ({"eventTypes": ["order.*"]}, {"n": 0}),
        ({"filter": {"path": "$.n", "eq": 1}}, {"n": 1}),
        ({"filter": {"path": "$.n", "eq": 2}}, {"n": 2}),
    )
    for change, payload in changes:
        client.data(UPDATE, id=endpoint.id, input=change)
        began = time.monotonic()
        sent = client.post("/api/v1/events", {"eventType": "order.shipped", "payload": payload}).json["id"]
        wait_until(lambda sent=sent: sent in sink.events(), what="the arrival")
        assert time.monotonic() - began < 2.0
