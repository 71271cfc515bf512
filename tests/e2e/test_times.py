"""Events with a time arrive at that time: never before, and soon after."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.e2e.client import Client
from tests.e2e.system import wait_until
from tests.sink import Sink

LATE_S = 3.0
FIELDS = "query($id: ID!) { event(id: $id) { status scheduledAt createdAt } }"


def in_s(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


@pytest.mark.parametrize(
    ("asked", "after_s"),
    [
        (lambda: {"deliverAt": in_s(1.5)}, 1.5),
        (lambda: {"delaySeconds": 2}, 2.0),
        (lambda: {"deliverAt": in_s(-3600)}, 0.0),
        (lambda: {"delaySeconds": 0}, 0.0),
    ],
    ids=["deliverAt", "delaySeconds", "a past time", "no delay"],
)
def test_an_event_arrives_at_its_time(client: Client, sink: Sink, asked: Any, after_s: float) -> None:
    client.endpoint(sink.url())
    began = time.monotonic()
    event = client.send(**asked())
    answered = time.monotonic()
    if after_s:
        shown = client.data(FIELDS, id=event)["event"]
        assert shown["status"] == "QUEUED"
        assert shown["scheduledAt"] > shown["createdAt"]
    wait_until(lambda: sink.arrivals, what="the arrival")
    arrived = sink.arrivals[0].at
    print(f"{arrived - began - after_s:.3f} s after its time")
    assert arrived >= began + after_s
    assert arrived <= answered + after_s + LATE_S


def test_one_url_at_a_time_to_come(client: Client, sink: Sink) -> None:
    began = time.monotonic()
    client.post("/api/v1/events", {"destination": sink.url(), "payload": 1, "delaySeconds": 1})
    wait_until(lambda: sink.arrivals, what="the arrival")
    assert began + 1 <= sink.arrivals[0].at <= began + 1 + LATE_S
