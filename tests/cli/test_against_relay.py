"""The commands against a running Relay, as a person uses them one after the other."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from relay.cli.api_client import Client
from tests.cli.conftest import RunningRelay

DEADLINE_S = 20.0
_ENDPOINTS = "query Endpoints { endpoints(first: 100) { nodes { id url } } }"


def _endpoint_urls(relay: RunningRelay) -> set[str]:
    return {node["url"] for node in Client(relay.url).graphql(_ENDPOINTS)["endpoints"]["nodes"]}


@contextmanager
def _listening(relay: RunningRelay, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A `relay listen --json` that is ready."""
    with relay.start("listen", "--json", *arguments) as listener:
        assert listener.stderr is not None
        try:
            assert "Listening on http://127.0.0.1:" in listener.stderr.readline()
            yield listener
        finally:
            listener.terminate()
            listener.wait(timeout=DEADLINE_S)


def _next(listener: subprocess.Popen[str]) -> dict[str, Any]:
    assert listener.stdout is not None
    return json.loads(listener.stdout.readline())


def _why_until(relay: RunningRelay, event_id: str, words: str) -> str:
    deadline = time.monotonic() + DEADLINE_S
    while words not in (page := relay.run("why", event_id).stdout):
        assert time.monotonic() < deadline, page
    return page


def _type() -> str:
    return f"cli.t{uuid4().hex[:12]}"


def test_what_is_sent_arrives_signed_byte_for_byte(running_relay: RunningRelay, tmp_path: Path) -> None:
    payload, event_type = b'{"b": 1e2, "a": "\\u00e9",  "n": 12345678901234567890123}', _type()
    (tmp_path / "payload.json").write_bytes(payload)
    with _listening(running_relay, "--types", event_type, "--count", "1") as listener:
        sent = json.loads(running_relay.run("send", event_type, "--data", f"@{tmp_path}/payload.json", "--json").stdout)
        seen = _next(listener)
        assert listener.wait(timeout=DEADLINE_S) == 0
    assert (seen["eventId"], seen["eventType"], seen["attempt"]) == (sent["id"], event_type, 1)
    assert (seen["standardSignature"], seen["relaySignature"]) == (True, True)
    assert seen["body"].encode() == payload


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_listener_takes_its_endpoint_away_however_it_is_ended(
    running_relay: RunningRelay, end: signal.Signals
) -> None:
    before = _endpoint_urls(running_relay)
    with _listening(running_relay, "--types", _type()) as listener:
        assert len(_endpoint_urls(running_relay) - before) == 1
        listener.send_signal(end)
        assert listener.wait(timeout=DEADLINE_S) == 0
    assert _endpoint_urls(running_relay) == before


def test_a_listener_whose_reader_went_away_takes_its_endpoint_away(running_relay: RunningRelay) -> None:
    before, event_type = _endpoint_urls(running_relay), _type()
    with _listening(running_relay, "--types", event_type) as listener:
        assert listener.stdout is not None
        listener.stdout.close()
        running_relay.run("send", event_type)
        listener.wait(timeout=DEADLINE_S)
        assert listener.stderr is not None
        assert "Traceback" not in listener.stderr.read()
    assert _endpoint_urls(running_relay) == before


def test_why_tells_the_story_of_a_delivered_event(running_relay: RunningRelay) -> None:
    event_type = _type()
    with _listening(running_relay, "--types", event_type) as listener:
        sent = json.loads(running_relay.run("send", event_type, "--json").stdout)
        _next(listener)
        page = _why_until(running_relay, sent["id"], "It arrived everywhere it should.")
    assert f"Event {event_type}  {sent['id']}" in page
    assert "200 OK" in page
    assert "relay listen" in page


def test_why_tells_what_failed_and_when_it_is_tried_again(running_relay: RunningRelay) -> None:
    event_type = _type()
    with _listening(running_relay, "--types", event_type, "--status", "503") as listener:
        sent = json.loads(running_relay.run("send", event_type, "--json").stdout)
        assert [_next(listener)["attempt"] for _ in range(2)] == [1, 2]
        page = _why_until(running_relay, sent["id"], "attempt 3 of 11")
    assert "503 Service Unavailable" in page
    assert "FAILED" in page
    page = _why_until(running_relay, sent["id"], "the endpoint was deleted")
    assert "Cancelled after 2 attempts" in page


def test_why_says_that_an_event_was_for_nobody(running_relay: RunningRelay) -> None:
    with _listening(running_relay, "--types", "something.else"):
        sent = json.loads(running_relay.run("send", _type(), "--json").stdout)
        page = _why_until(running_relay, sent["id"], "UNMATCHED")
    assert "subscribed to something.else" in page


def test_why_of_an_unknown_event_is_one_sentence(running_relay: RunningRelay) -> None:
    done = running_relay.run("why", "01900000-0000-7000-8000-000000000000", code=1)
    assert done.stderr.startswith("relay: There is no event 01900000-")
    assert running_relay.run("why", "nonsense", code=1).stderr.count("\n") == 1


def test_an_event_can_go_to_one_url_alone(running_relay: RunningRelay) -> None:
    before = _endpoint_urls(running_relay)
    with _listening(running_relay, "--types", _type()) as listener:
        (url,) = _endpoint_urls(running_relay) - before
        sent = json.loads(running_relay.run("send", "--to", url, "--data", "[1]", "--json").stdout)
        seen = _next(listener)
    assert (seen["eventId"], seen["body"], seen["eventType"]) == (sent["id"], "[1]", None)
    assert f"Event for {url}" in _why_until(running_relay, sent["id"], "It arrived")


def test_the_same_idempotency_key_is_no_new_event(running_relay: RunningRelay) -> None:
    arguments = ("send", _type(), "--idempotency-key", uuid4().hex)
    first = running_relay.run(*arguments, "--json")
    again = running_relay.run(*arguments, "--json")
    assert json.loads(first.stdout)["id"] == json.loads(again.stdout)["id"]
    assert [json.loads(done.stdout)["duplicate"] for done in (first, again)] == [False, True]
    assert "Known already" in running_relay.run(*arguments).stdout
    assert "relay: " in running_relay.run(*arguments, "--data", "[2]", code=1).stderr


def test_what_relay_refuses_is_one_sentence(running_relay: RunningRelay) -> None:
    done = running_relay.run("send", "a.b", "--priority", "11", code=1)
    assert done.stderr.count("\n") == 1
    assert "priority" in done.stderr


def test_logs_show_attempts_as_they_happen_and_afterwards(running_relay: RunningRelay) -> None:
    event_type = _type()
    with running_relay.start("logs", "-f", "--json", "--type", event_type, "--level", "info") as following:
        assert following.stdout is not None
        assert following.stderr is not None
        try:
            assert following.stderr.readline().startswith("Watching")
            with _listening(running_relay, "--types", event_type, "--count", "1"):
                running_relay.run("send", event_type, "--data", "{}")
                line = json.loads(following.stdout.readline())
        finally:
            following.send_signal(signal.SIGINT)
        assert following.wait(DEADLINE_S) == 0
    assert (line["status"], line["event_type"], line["attempt"]) == ("delivered", event_type, 1)
    (again,) = running_relay.run("logs", "--json", "--type", event_type).stdout.splitlines()
    same = {"status", "event_id", "delivery_id", "attempt", "status_code", "reason"}
    assert {name: json.loads(again)[name] for name in same} == {name: line[name] for name in same}
    page = running_relay.run("logs", "--status", "delivered", "--limit", "1").stdout
    assert line["event_id"] in page
    assert "attempt 1, 200" in page
    assert "status must be of" in running_relay.run("logs", "-f", "--status", "lost", code=1).stderr


def test_stats_are_shown_and_watched(running_relay: RunningRelay) -> None:
    assert "accepted and not final" in running_relay.run("stats").stdout
    with running_relay.start("stats", "--watch", "--json") as watching:
        assert watching.stdout is not None
        assert {"pending", "dead"} <= json.loads(watching.stdout.readline()).keys()
        watching.send_signal(signal.SIGINT)
        assert watching.wait(timeout=DEADLINE_S) == 0


def test_top_shows_what_moves(running_relay: RunningRelay) -> None:
    event_type = _type()
    with _listening(running_relay, "--types", event_type, "--count", "1") as listener:
        running_relay.run("send", event_type)
        _next(listener)
        deadline = time.monotonic() + DEADLINE_S
        while not (seen := json.loads(running_relay.run("top", "--once", "--json").stdout))["rates"]["delivered"]:
            assert time.monotonic() < deadline, seen
    assert seen["activity"]["delivered"] >= 1
    assert (seen["activity"]["workers"], seen["activity"]["webProcesses"]) == (1, 1)
    page = running_relay.run("top", "--once").stdout
    assert "workers 1   web processes 1" in page
    assert "on the wire" in page


def test_the_policy_of_an_endpoint_is_simulated_and_varied(running_relay: RunningRelay) -> None:
    create = """mutation Create($input: CreateEndpointInput!) { createEndpoint(input: $input) { endpoint { id } } }"""
    input = {"url": "http://127.0.0.1:9000/hook", "eventTypes": [_type()], "retrySchedule": [1000, 60000]}
    id = Client(running_relay.url).graphql(create, {"input": input})["createEndpoint"]["endpoint"]["id"]
    page = running_relay.run("policy", "simulate", id).stdout
    assert f"Retry policy of http://127.0.0.1:9000/hook  {id}" in page
    assert "After attempt 3, 1 min 13 s after the first at the latest" in page
    varied = json.loads(running_relay.run("policy", "simulate", id, "--max-retries", "4", "--json").stdout)
    assert [step["delayMs"] for step in varied["attempts"]] == [0, 1000, 60000, 60000, 60000]
    done = running_relay.run("policy", "simulate", "01900000-0000-7000-8000-000000000000", code=1)
    assert done.stderr.startswith("relay: There is no endpoint 01900000-")
    Client(running_relay.url).graphql("mutation Drop($id: ID!) { deleteEndpoint(id: $id) }", {"id": id})


def test_the_schema_is_printed_and_written(running_relay: RunningRelay, tmp_path: Path) -> None:
    printed = running_relay.run("schema").stdout
    assert "type Query" in printed
    running_relay.run("schema", "--out", str(tmp_path / "schema.graphql"))
    assert (tmp_path / "schema.graphql").read_text() == printed


def test_a_key_is_made_in_the_embedded_database(running_relay: RunningRelay) -> None:
    made = json.loads(running_relay.run("apikey", "create", "--tenant", "shop", "--json").stdout)
    assert made["key"].startswith("rly_")


def test_the_demo_shows_every_kind_of_endpoint(running_relay: RunningRelay) -> None:
    before = _endpoint_urls(running_relay)
    shown = json.loads(running_relay.run("demo", "--seconds", "3", "--json").stdout)
    healthy, dead = shown["endpoints"]["healthy"], shown["endpoints"]["dead"]
    assert healthy["delivered"] == shown["sent"] > 0
    assert dead["delivered"] == 0
    assert {"healthy", "flaky", "slow", "dead"} == shown["endpoints"].keys()
    assert _endpoint_urls(running_relay) == before
