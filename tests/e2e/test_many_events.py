"""Many events to a steady and a flaky endpoint: Relay's own numbers are those of the receiver."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.e2e.client import Client, Made
from tests.e2e.system import COUNTED_S, wait_until
from tests.sink import Answer, Arrival, Sink

EVENTS = 2_000
AT_ONCE = 100
FAILURES = 2
STATS = """query($id: ID!) { endpoint(id: $id) { stats {
  totalEvents delivered failed pending dead attempts successRate } } }"""
QUEUE = "{ queueStats { queued pending delivering delayed delivered failed dead cancelled ready held } }"
PAGE = """query($id: ID!, $after: String) { endpoint(id: $id) { deliveries(first: 100, after: $after) {
  nodes { status attempts event { id } } pageInfo { hasNextPage endCursor } } } }"""


def fail_twice(arrival: Arrival) -> Answer:
    # Not 500: so many in a row would open its circuit.
    return Answer(409 if arrival.path == "/flaky" and arrival.attempt <= FAILURES else 200)


def send_all(client: Client) -> set[str]:
    """Send them all in batches from four connections; their ids."""

    def batch(start: int) -> list[str]:
        events = [{"eventType": "order.paid", "payload": {"n": start + n}} for n in range(AT_ONCE)]
        return [result["id"] for result in client.send_batch(events)]

    with ThreadPoolExecutor(4) as pool:
        return {id for ids in pool.map(batch, range(0, EVENTS, AT_ONCE)) for id in ids}


def deliveries(client: Client, endpoint: Made) -> list[dict[str, Any]]:
    """All deliveries of an endpoint, page after page."""
    found: list[dict[str, Any]] = []
    after = None
    while True:
        page = client.data(PAGE, id=endpoint.id, after=after)["endpoint"]["deliveries"]
        found += page["nodes"]
        if not page["pageInfo"]["hasNextPage"]:
            return found
        after = page["pageInfo"]["endCursor"]


def test_all_arrive_and_every_number_is_the_receivers(client: Client, sink: Sink) -> None:
    sink.answer = fail_twice
    steady = client.endpoint(sink.url("/steady"))
    flaky = client.endpoint(sink.url("/flaky"), retrySchedule=[50, 100])
    sent = send_all(client)
    assert len(sent) == EVENTS
    expected = EVENTS * (1 + FAILURES + 1)
    wait_until(lambda: len(sink.arrivals) >= expected, 60, what=f"{expected} arrivals")

    def queue() -> dict[str, int]:
        return client.data(QUEUE)["queueStats"]

    wait_until(lambda: queue()["delivered"] == 2 * EVENTS, COUNTED_S, what="the counts")
    assert queue() == {**dict.fromkeys(queue(), 0), "delivered": 2 * EVENTS}
    for endpoint, path, attempts in ((steady, "/steady", 1), (flaky, "/flaky", FAILURES + 1)):
        assert sink.events(path) == Counter(dict.fromkeys(sent, attempts))
        listed = deliveries(client, endpoint)
        assert {delivery["event"]["id"] for delivery in listed} == sent
        assert {(delivery["status"], delivery["attempts"]) for delivery in listed} == {("DELIVERED", attempts)}
        assert len(listed) == EVENTS
        wait_until(
            lambda e=endpoint, n=attempts: stats(client, e)["attempts"] == n * EVENTS, COUNTED_S, what="the stats"
        )
        assert stats(client, endpoint) == {
            "totalEvents": EVENTS,
            "delivered": EVENTS,
            **dict.fromkeys(("failed", "pending", "dead"), 0),
            "attempts": sink.by_path()[path],
            "successRate": round(1 / attempts, 3),
        }


def stats(client: Client, endpoint: Made) -> dict[str, Any]:
    """An endpoint's numbers, the rate as a person writes it."""
    found = client.data(STATS, id=endpoint.id)["endpoint"]["stats"]
    return {**found, "successRate": round(found["successRate"], 3)}
