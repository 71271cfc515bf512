"""What a producer writes is what arrives, byte for byte, whichever way it came in, at each attempt, and what is shown."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.e2e.client import Answer, Client
from tests.e2e.signatures import assert_signed
from tests.e2e.system import wait_until
from tests.sink import Answer as Reply
from tests.sink import Sink

ODD = [
    b"1e2",
    b"12345678901234567890123",
    b'"\\u00e9"',
    '"é"'.encode(),
    b'{ "b" : 1,\n\t"a":[1.0,  2.50, {"b":1, "a":2}] }',
    b'{"z":{"y":[ ]},"n":-0.0,"big":98765432109876543210987}',
]
GRAPHQL = b'{"query":"mutation(%s) { %s }","variables":%s}'


def rest(client: Client, payload: bytes) -> Answer:
    return client.post("/api/v1/events", b'{"eventType": "odd.one", "payload" : ' + payload + b" }")


def rest_batch(client: Client, payload: bytes) -> Answer:
    return client.post("/api/v1/events/batch", b'{"events":[ {"payload":' + payload + b',"eventType":"odd.one"} ]}')


def whole_input(client: Client, payload: bytes) -> Answer:
    variables = b'{"input": {"eventType":"odd.one", "payload":  ' + payload + b"}}"
    call = b"sendEvent(input: $input) { id payload }"
    return client.post("/graphql", GRAPHQL % (b"$input: SendEventInput!", call, variables))


def inside_an_inline_input(client: Client, payload: bytes) -> Answer:
    call = b'sendEvent(input: {eventType: \\"odd.one\\", payload: $payload}) { id payload }'
    return client.post("/graphql", GRAPHQL % (b"$payload: JSON!", call, b'{ "payload" :' + payload + b"}"))


def many_inputs(client: Client, payload: bytes) -> Answer:
    variables = b'{"inputs":[{"eventType":"odd.one","payload":' + payload + b"}]}"
    call = b"sendEvents(inputs: $inputs) { event { id payload } error { message } }"
    return client.post("/graphql", GRAPHQL % (b"$inputs: [SendEventInput!]!", call, variables))


WAYS = (rest, rest_batch, whole_input, inside_an_inline_input, many_inputs)


def id_in(answer: Answer) -> str:
    """The event's id, wherever this way of sending puts it."""
    found = answer.json
    for step in ("results", "data", "sendEvent", "sendEvents"):
        found = found.get(step, found) if isinstance(found, dict) else found
    found = found[0] if isinstance(found, list) else found
    return found.get("event", found)["id"]


@pytest.mark.parametrize("way", WAYS, ids=[way.__name__ for way in WAYS])
def test_the_same_bytes_arrive_at_every_attempt_and_read_back(
    client: Client, sink: Sink, way: Callable[[Client, bytes], Answer]
) -> None:
    sink.answer = lambda arrival: Reply(500 if arrival.attempt == 1 else 200)
    endpoint = client.endpoint(sink.url(), retrySchedule=[20], circuitThreshold=1000)
    sent = {id_in(way(client, payload)): payload for payload in ODD}
    wait_until(lambda: len(sink.arrivals) == 2 * len(ODD), what="both attempts of each")
    for id, payload in sent.items():
        attempts = [arrival for arrival in sink.arrivals if arrival.event_id == id]
        assert [arrival.attempt for arrival in attempts] == [1, 2]
        for arrival in attempts:
            assert arrival.body == payload
            assert_signed(arrival, endpoint.secret)
        shown = client.ask("query($id: ID!) { event(id: $id) { payload } }", id=id)
        assert shown.body == b'{"data":{"event":{"payload":' + payload + b"}}}"


def test_graphql_answers_with_the_same_text_it_was_given(client: Client) -> None:
    for way in (whole_input, inside_an_inline_input, many_inputs):
        for payload in ODD:
            assert b'"payload":' + payload + b"}" in way(client, payload).body
