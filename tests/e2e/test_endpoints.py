"""Endpoints as customers live with them: signed, tested, changed, deleted; and single URLs, signed by the client."""

from __future__ import annotations

import base64
from uuid import uuid4

from tests.e2e.client import Client
from tests.e2e.signatures import assert_signed
from tests.e2e.system import System, wait_until
from tests.sink import Answer, Arrival, Sink

ROTATE = """mutation($secret: String, $overlap: Int) { rotateClientSecret(secret: $secret, overlapSeconds: $overlap) {
  newSecret previousSecretExpiresAt } }"""
TEST = """mutation($id: ID!, $type: String) { testEndpoint(id: $id, eventType: $type) {
  id event { id eventType } endpoint { id } } }"""
UPDATE = """mutation($id: ID!, $input: UpdateEndpointInput!) { updateEndpoint(id: $id, input: $input) { id } }"""
DELETE = "mutation($id: ID!) { deleteEndpoint(id: $id) }"
EXPLAIN = "query($id: ID!) { explainEvent(id: $id) { matched why recorded endpoint { id } } event(id: $id) { status } }"


def arrival_of(sink: Sink, event_id: str) -> Arrival:
    """The one arrival of an event; waits for it."""
    wait_until(lambda: event_id in sink.events(), what="the arrival")
    (arrival,) = (arrival for arrival in sink.arrivals if arrival.event_id == event_id)
    return arrival


def send_to(client: Client, url: str) -> str:
    answer = client.post("/api/v1/events", {"destination": url, "payload": {"to": "one"}})
    assert answer.status == 202
    return answer.json["id"]


def test_a_single_url_is_signed_with_the_clients_secret_and_with_both_while_it_changes(
    system: System, sink: Sink
) -> None:
    made = system.new_key(f"shop-{uuid4().hex}")
    first = made["secret"]
    client = Client(system.url, key=made["key"])
    url = sink.url("/one")
    assert_signed(arrival_of(sink, send_to(client, url)), first)
    second = client.data(ROTATE, overlap=600)["rotateClientSecret"]["newSecret"]
    assert_signed(arrival_of(sink, send_to(client, url)), second, first)
    own = "whsec_" + base64.b64encode(b"a secret of the customer's own choice").decode()
    assert client.data(ROTATE, secret=own, overlap=0)["rotateClientSecret"]["newSecret"] == own
    assert_signed(arrival_of(sink, send_to(client, url)), own)
    event = client.data("{ events(first: 1) { nodes { destination eventType deliveries { endpoint { id } } } } }")
    assert event["events"]["nodes"] == [{"destination": url, "eventType": None, "deliveries": [{"endpoint": None}]}]
    assert client.data("{ endpoints { totalCount } }")["endpoints"]["totalCount"] == 0
    client.close()


def test_an_endpoint_may_bring_its_own_secret(client: Client, sink: Sink) -> None:
    own = "whsec_" + base64.b64encode(b"k" * 64).decode()
    endpoint = client.endpoint(sink.url(), secret=own)
    assert endpoint.secret == own
    assert_signed(arrival_of(sink, client.send()), own)


def test_a_test_event_arrives_at_that_endpoint_alone(client: Client, sink: Sink) -> None:
    endpoint = client.endpoint(sink.url("/tested"), eventTypes=["invoice.paid"])
    client.endpoint(sink.url("/other"), eventTypes=["*", "relay.*"])
    for event_type, shown in ((None, "relay.test"), ("invoice.paid", "invoice.paid")):
        tested = client.data(TEST, id=endpoint.id, type=event_type)["testEndpoint"]
        assert (tested["event"]["eventType"], tested["endpoint"]["id"]) == (shown, endpoint.id)
        assert_signed(arrival_of(sink, tested["event"]["id"]), endpoint.secret)
    assert set(sink.by_path()) == {"/tested"}


def test_a_change_holds_for_the_next_delivery(client: Client, sink: Sink) -> None:
    endpoint = client.endpoint(sink.url("/before"), customHeaders={"X-Shop": "old", "X-Gone": "soon"})
    before = arrival_of(sink, client.send())
    assert (before.path, before.headers["x-shop"], before.headers["x-gone"]) == ("/before", "old", "soon")
    client.data(UPDATE, id=endpoint.id, input={"url": sink.url("/after"), "customHeaders": {"X-Shop": "new"}})
    after = arrival_of(sink, client.send())
    assert (after.path, after.headers["x-shop"]) == ("/after", "new")
    assert "x-gone" not in after.headers
    assert_signed(after, endpoint.secret)
    client.data(UPDATE, id=endpoint.id, input={"eventTypes": ["invoice.*"]})
    unmatched = client.send("order.paid")
    arrival_of(sink, client.send("invoice.paid"))
    wait_until(lambda: client.story(unmatched)["status"] == "UNMATCHED", what="nobody to send it to")
    assert unmatched not in sink.events()


def test_a_change_of_the_retries_holds_for_what_fails_already(client: Client, sink: Sink) -> None:
    sink.answer = lambda _: Answer(503)
    endpoint = client.endpoint(sink.url(), retrySchedule=[300, 600_000])
    event = client.send()
    wait_until(lambda: len(sink.arrivals) == 1, what="the first attempt")
    client.data(UPDATE, id=endpoint.id, input={"maxRetries": 1})
    wait_until(lambda: client.story(event)["status"] == "DEAD", what="its end")
    (delivery,) = client.story(event)["deliveries"]
    assert (delivery["attempts"], delivery["reason"]) == (2, "ATTEMPTS_EXHAUSTED")
    assert len(sink.arrivals) == 2


def test_deleting_an_endpoint_cancels_what_waits_there(client: Client, sink: Sink) -> None:
    sink.answer = lambda _: Answer(503)
    endpoint = client.endpoint(sink.url(), retrySchedule=[600_000])
    events = [client.send() for _ in range(3)]
    wait_until(lambda: all(client.story(event)["status"] == "FAILED" for event in events), what="three failures")
    assert client.data(DELETE, id=endpoint.id) == {"deleteEndpoint": True}
    for event in events:
        story = client.story(event)
        (delivery,) = story["deliveries"]
        assert (story["status"], delivery["status"], delivery["reason"]) == (
            "CANCELLED",
            "CANCELLED",
            "ENDPOINT_DELETED",
        )
        assert (delivery["endpoint"], delivery["destination"]) == (None, sink.url())
    late = client.send()
    wait_until(lambda: client.story(late)["status"] == "UNMATCHED", what="nobody to send it to")
    assert len(sink.arrivals) == 3


def test_an_event_that_nobody_subscribed_to_is_accepted_and_explained(client: Client, sink: Sink) -> None:
    endpoint = client.endpoint(sink.url(), eventTypes=["invoice.*", "order.lost"])
    event = client.send("order.paid")
    wait_until(lambda: client.story(event)["status"] == "UNMATCHED", what="nobody to send it to")
    assert client.data(EXPLAIN, id=event) == {
        "explainEvent": [
            {"matched": False, "why": "TYPE_NOT_SUBSCRIBED", "recorded": False, "endpoint": {"id": endpoint.id}}
        ],
        "event": {"status": "UNMATCHED"},
    }
    assert sink.arrivals == []
    matched = client.send("invoice.paid")
    wait_until(lambda: client.story(matched)["status"] == "DELIVERED", what="the delivery")
    (decision,) = client.data(EXPLAIN, id=matched)["explainEvent"]
    assert (decision["why"], decision["recorded"]) == ("MATCHED", True)


def test_without_any_endpoint_an_event_is_accepted_and_nobody_was_left_out(client: Client) -> None:
    event = client.send()
    wait_until(lambda: client.story(event)["status"] == "UNMATCHED", what="nobody to send it to")
    assert client.data(EXPLAIN, id=event)["explainEvent"] == []
