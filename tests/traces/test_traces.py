"""TRACES_ENDPOINT: what a real OTLP receiver gets of real processes, and that nothing of it is there when it is off."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from uuid import UUID

import pytest
from falcon.testing import ASGIConductor

from api.app import create_app
from relay.db import Conn
from relay.ids import Uuid7
from relay.settings import Settings, SettingsError, read_settings
from relay.tenancy import tenants
from relay.traces import contexts
from relay.traces.export import Traces
from relay.up.development import free_port
from tests.api.conftest import Api
from tests.delivery.crew import fan_out, open_crew
from tests.documents import ROOT, first_column
from tests.faults.conftest import shop
from tests.otlp_receiver import Span, otlp_receiver
from tests.running import CHECKOUT, environment, until, until_so, until_true, web, worker
from tests.shop import Shop
from tests.sink import Answer, Arrival, Sink

__all__ = ["shop"]
TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, NOT_SAMPLED = f"00-{TRACE}-{CALLER}-01", f"00-{TRACE}-{CALLER}-00"
DOCUMENTED = set(
    re.findall(r"`([^`]+)`", " ".join(first_column(ROOT / "docs/operations.md", "| span | kind | made by | says |")))
)
EVENT = {
    "eventType": "order.paid",
    "payload": {"card": "SECRET-1"},
    "headers": {"X-Token": "SECRET-2"},
    "subject": "SECRET-3",
}


def answers(arrival: Arrival) -> Answer:
    """By path; the flaky one fails once."""
    if arrival.path.startswith("/gone"):
        return Answer(410)
    return Answer(500 if arrival.path.startswith("/flaky") and arrival.attempt == 1 else 200)


async def post(port: int, body: object, **headers: str) -> str:
    """Send an event to a web process; return its id."""

    def send() -> str:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/api/v1/events",
            json.dumps(body).encode(),
            headers={"Connection": "close", **headers},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read())["id"]

    return await asyncio.to_thread(send)


async def is_open(port: int) -> bool:
    try:
        (await asyncio.open_connection("127.0.0.1", port))[1].close()
    except OSError:
        return False
    return True


async def test_a_request_its_event_and_each_attempt_are_linked_across_processes(
    settings: Settings, shop: Shop, conn: Conn, tmp_path: Path
) -> None:
    with otlp_receiver() as receiver, Sink(answers) as sink:
        own = settings.model_copy(update={"traces_endpoint": receiver.url, "traces_forward": True, "port": free_port()})
        shop.tenant_id = await _everybody(shop)
        secret = {"custom_headers": {"X-Key": "SECRET-4"}, "retry_schedule": [50, 50]}
        endpoints = {
            path: str(await shop.endpoint(sink.url(f"/{path}/SECRET-5?key=SECRET-6"), **secret))
            for path in ("good", "flaky", "gone")
        }
        await shop.endpoint(sink.url("/own"), custom_headers={"Traceparent": "the client's"})
        running = [web(own, tmp_path / "web.log"), worker(own, tmp_path / "worker.log")]
        try:
            await until_so(lambda: is_open(own.port))
            event = UUID(await post(own.port, EVENT, traceparent=SAMPLED))
            await until_true(conn, "SELECT count(*) >= 4 FROM history")
            for each in running:
                each.process.terminate()
            assert [each.process.wait(40) for each in running] == [0, 0]
        finally:
            for each in running:
                each.kill()
                print(each.text())
        _check_trace(receiver.spans, event, endpoints)
        _check_forwarded(receiver.spans, sink.arrivals)
        assert b"SECRET" not in receiver.bytes_of_traces
        assert set(receiver.paths) == {"/v1/traces"}
        assert {one.name for one in receiver.spans} <= DOCUMENTED


async def _everybody(shop: Shop) -> UUID:
    """Whose events a web process without keys accepts."""
    async with shop.web.db.transaction() as conn:
        return (await tenants.ensure(conn, tenants.DEFAULT_NAME, vault=shop.web.vault))[0].id


def _check_trace(spans: list[Span], event: UUID, endpoints: dict[str, str]) -> None:
    (server,) = [one for one in spans if one.kind == "server"]
    own = [one for one in spans if one.trace_id == event.hex]
    (created,), (fanned_out,) = ([one for one in own if one.kind == kind] for kind in ("producer", "consumer"))
    assert (server.service, server.name) == ("relay-web", "POST /api/v1/events")
    assert (server.trace_id, server.parent_id, server.links) == (TRACE, CALLER, [created.id])
    assert (created.service, created.parent_id, created.links) == ("relay-web", "", [server.id])
    assert server.attributes["http.response.status_code"] == 202
    assert server.start_ns <= created.start_ns <= created.end_ns <= server.end_ns
    assert (fanned_out.service, fanned_out.parent_id) == ("relay-worker", created.span_id)
    assert fanned_out.attributes["relay.deliveries"] == 4
    attempts = [one for one in own if one.kind == "client"]
    assert {(one.service, one.parent_id) for one in attempts} == {("relay-worker", created.span_id)}
    assert len({one.span_id for one in own}) == len(own)

    def of(endpoint: str) -> list[tuple[object, ...]]:
        mine = [one for one in attempts if one.attributes["relay.endpoint.id"] == endpoints[endpoint]]
        keys = ("relay.attempt", "http.response.status_code", "error.type", "relay.outcome")
        return sorted((*(one.attributes.get(key) for key in keys), one.failed) for one in mine)

    assert of("good") == [(1, 200, None, "delivered", False)]
    assert of("gone") == [(1, 410, "gone", "dead", True)]
    assert of("flaky") == [(1, 500, "http_server_error", "waiting", True), (2, 200, None, "delivered", False)]
    assert all(one.attributes["server.address"] == "127.0.0.1" for one in attempts)
    assert all(str(one.attributes["url.full"]).endswith("/REDACTED") for one in attempts)
    assert all(created.start_ns < one.start_ns < one.end_ns < time.time_ns() for one in attempts)


def _check_forwarded(spans: list[Span], arrivals: list[Arrival]) -> None:
    """Each endpoint got the span of its attempt, but for one that has a header of its own."""
    headers = {one.headers["traceparent"] for one in arrivals if one.path != "/own"}
    made = {f"00-{one.trace_id}-{one.span_id}-01" for one in spans if one.kind == "client"}
    assert [one.headers["traceparent"] for one in arrivals if one.path == "/own"] == ["the client's"]
    assert len(headers) == 4
    assert headers <= made
    assert len(made) == len(arrivals) == 5


async def test_what_is_sent_in_one_request_is_linked_to_it_and_repeats_are_no_new_traces(settings: Settings) -> None:
    ids, sent = list[str](), ""
    with otlp_receiver() as receiver:
        own = settings.model_copy(update={"traces_endpoint": receiver.url})
        async with ASGIConductor(create_app(own)) as conductor:
            api = Api(conductor)
            batch = {"events": [{"eventType": "a.b", "payload": n, "idempotencyKey": f"k{n}"} for n in range(2)]}
            bad = {"events": [*batch["events"], {"eventType": "no good"}]}
            ids = [one["id"] for one in (await api.post("/api/v1/events/batch", batch)).json["results"]]
            assert (await api.post("/api/v1/events/batch", bad, traceparent=NOT_SAMPLED)).status_code == 200
            assert (await api.post("/api/v1/events/batch", bad, traceparent="nonsense")).status_code == 200
            mutation = 'mutation { sendEvent(input: {eventType: "a.b", payload: 1}) { id } }'
            sent = (await api.data(mutation))["sendEvent"]["id"]
            assert (await api.post("/api/v1/events", "{}")).status_code == 400
            await api.get("/health/live")
            assert (await api.post("/nowhere", "{}")).status_code == 404
    events = {one.trace_id: one for one in receiver.spans if one.kind == "producer"}
    assert set(events) == {UUID(id).hex for id in [*ids, sent]}
    servers = [one for one in receiver.spans if one.kind == "server"]
    assert {one.name for one in receiver.spans} <= DOCUMENTED
    both = [events[UUID(id).hex].id for id in ids]
    assert [
        (one.attributes["http.route"], one.attributes["http.response.status_code"], one.links) for one in servers
    ] == [
        ("/api/v1/events/batch", 200, both),
        ("/api/v1/events/batch", 200, both),
        ("/graphql", 200, [events[UUID(sent).hex].id]),
        ("/api/v1/events", 400, []),
    ]
    assert all(one.parent_id == "" and one.trace_id != TRACE for one in servers)
    assert [events[UUID(id).hex].links for id in ids] == [[servers[0].id]] * 2


async def test_all_processes_agree_on_the_part_of_events_that_is_traced(
    settings: Settings, shop: Shop, conn: Conn
) -> None:
    """Also of events of one moment, whose ids hardly differ."""
    with otlp_receiver() as receiver, Sink() as sink:
        part = {"traces_endpoint": receiver.url, "traces_sample_ratio": 0.25, "traces_forward": True}
        async with open_crew(settings.model_copy(update=part)) as crew:
            await shop.endpoint(sink.url())
            sent = await shop.send(60)
            dispatched = [one async for batch in crew.fanout.drain(list(range(16))) for one in batch]
            for n, one in enumerate(dispatched, 1):
                await crew.deliverer.deliver([one])
                await until(lambda n=n: len(sink.arrivals) == n, 5)
            await until_true(conn, "SELECT count(*) = 60 FROM history", 10)
    traced = {id for id in sent if contexts.of_event(UUID(id), ratio=0.25).sampled}
    assert 3 < len(traced) < 30
    for kind in ("consumer", "client"):
        assert {str(UUID(one.trace_id)) for one in receiver.spans if one.kind == kind} == traced
    flags = {one.event_id: one.headers["traceparent"][-2:] for one in sink.arrivals}
    assert flags == {id: "01" if id in traced else "00" for id in sent}


async def test_a_receiver_that_is_away_is_a_warning_and_holds_nobody_up(caplog: pytest.LogCaptureFixture) -> None:
    traces = Traces(f"http://127.0.0.1:{free_port()}", service="relay-web", ratio=1.0)
    ids, now_ns = Uuid7(), time.time_ns()
    began = time.monotonic()
    with caplog.at_level(logging.WARNING):
        for _ in range(10_000):
            traces.add("POST", "client", traces.event(ids()), attributes={}, start_ns=now_ns, end_ns=now_ns)
        assert time.monotonic() - began < 5
        await until(lambda: "traces are not taken by TRACES_ENDPOINT" in caplog.text, 5)
        ending = time.monotonic()
        await traces.end()
        assert time.monotonic() - ending < 4
    assert len(caplog.records) == 1


async def test_what_is_not_taken_now_is_sent_again_and_what_is_refused_is_not() -> None:
    with otlp_receiver() as receiver:
        traces = Traces(f"{receiver.url}/own/v1/traces", service="relay-web", ratio=1.0)
        first, second = (traces.event(id) for id in (Uuid7()(), Uuid7()()))
        receiver.status = 503
        traces.add("POST", "client", first, attributes={}, start_ns=1, end_ns=2)
        await until(lambda: len(receiver.paths) == 1, 5)
        receiver.status = 200
        await until(lambda: len(receiver.paths) == 2, 5)
        receiver.status = 400
        traces.add("POST", "client", second, attributes={}, start_ns=1, end_ns=2)
        await traces.end()
    assert [one.span_id for one in receiver.spans] == [one.span_id.hex() for one in (first, first, second)]
    assert set(receiver.paths) == {"/own/v1/traces"}


async def test_without_traces_requests_are_as_ever(settings: Settings, shop: Shop, conn: Conn) -> None:
    with Sink() as sink:
        async with open_crew(settings) as crew:
            await shop.endpoint(sink.url())
            await shop.send(1)
            await crew.deliverer.deliver(await fan_out(shop))
            await until_true(conn, "SELECT count(*) = 1 FROM history", 10)
        assert "traceparent" not in sink.arrivals[0].headers
        assert (crew.traces, crew.sender.posting.spans, crew.fanout.spans, shop.web.traces) == (None, None, None, None)


BUILT = """
import asyncio, sys
import actors.main, api.app
from relay.runtime import Worker
from relay.settings import read_settings
theirs = ("opentelemetry.", "urllib3", "relay.traces.", "api.tracing", "relay.delivery.tracing")
async def build(endpoint):
    settings = read_settings(traces_endpoint=endpoint)
    api.app.create_app(settings)
    Worker(settings)
    print([name for name in sys.modules if name.startswith(theirs)])
asyncio.run(build(""))
asyncio.run(build("http://127.0.0.1:9"))
"""


def test_without_traces_nothing_of_them_is_imported(settings: Settings) -> None:
    argv, env = [sys.executable, "-c", BUILT], environment(settings)
    ran = subprocess.run(argv, env=env, cwd=CHECKOUT, capture_output=True, check=True, timeout=60)
    without, with_traces = ran.stdout.decode().splitlines()
    assert without == "[]"
    for name in (
        "opentelemetry.proto.trace.v1.trace_pb2",
        "relay.traces.export",
        "api.tracing",
        "relay.delivery.tracing",
    ):
        assert f"'{name}'" in with_traces


def test_to_forward_what_is_not_made_is_refused(settings: Settings) -> None:
    given = environment(settings, TRACES_FORWARD="true")
    with pytest.raises(SettingsError, match="TRACES_FORWARD: needs TRACES_ENDPOINT"):
        read_settings(given)
