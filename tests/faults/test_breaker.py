"""Circuits in real workers: a dead endpoint is left alone, one probe finds that it lives, and what was held arrives."""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path

from relay.db import Conn
from relay.delivery import gates
from relay.delivery.live import hints_for
from relay.settings import Settings
from tests.delivery.crew import fan_out, rows
from tests.faults.conftest import StartWorker
from tests.running import CHECKOUT, Running, environment, until, until_true
from tests.shop import Shop
from tests.sink import Answer, Arrival, Sink

THRESHOLD, WIDTH = 5, 5
HELD = 300
OPEN = "SELECT EXISTS (SELECT 1 FROM lanes WHERE gate_reason = 'circuit_open')"
TOLD = """SELECT array_agg(type ORDER BY id) = '{relay.endpoint.circuit_opened,relay.endpoint.circuit_closed}'
          FROM events WHERE type LIKE 'relay.%'"""
EMPTY = "SELECT NOT EXISTS (SELECT 1 FROM live) AND NOT EXISTS (SELECT 1 FROM outbox)"
RTT_S = 0.05
PROBE_S = 0.7
WATCHED_S = 5.0


class Patient:
    """An endpoint that fails until it is healed, and then takes its time for the first answer."""

    def __init__(self) -> None:
        self.healed = False
        self.probed = False

    def __call__(self, arrival: Arrival) -> Answer:
        if not self.healed:
            return Answer(status=500)
        first, self.probed = not self.probed, True
        return Answer(delay_s=PROBE_S if first else 0.0)


async def waiting(shop: Shop, sink: Sink, count: int = HELD, **fields: object) -> list[str]:
    """Have that many deliveries wait for one endpoint."""
    await shop.endpoint(
        sink.url(),
        circuit_threshold=THRESHOLD,
        max_concurrency=WIDTH,
        retry_schedule=[50],
        max_retries=20,
        **fields,
    )
    sent = await shop.send(count)
    await fan_out(shop, window=0)
    return sent


async def test_a_dead_endpoint_is_left_alone(shop: Shop, conn: Conn, start_worker: StartWorker) -> None:
    with Sink(lambda _: Answer(status=500, delay_s=RTT_S)) as sink:
        await waiting(shop, sink, circuit_reset_ms=300_000)
        start_worker()
        await until_true(conn, OPEN)
        began = time.monotonic()
        (late,) = await shop.send(1)
        await until(lambda: time.monotonic() - began > WATCHED_S)
        assert THRESHOLD <= len(sink.arrivals) <= THRESHOLD + WIDTH
        print(f"{len(sink.arrivals)} requests")
        assert late not in sink.events()
        assert await rows(conn, "SELECT sum(attempts)::int, count(*) FROM live") == [(len(sink.arrivals), HELD + 1)]


async def test_one_probe_of_two_workers_finds_it_healed_and_what_was_held_arrives(
    shop: Shop, conn: Conn, start_worker: StartWorker
) -> None:
    endpoint = Patient()
    with Sink(endpoint) as sink:
        sent = await waiting(shop, sink, circuit_reset_ms=2000)
        for _ in range(2):
            start_worker()
        await until_true(conn, OPEN)
        endpoint.healed = True
        await until(lambda: endpoint.probed, what="a probe")
        failed = len(sink.arrivals) - 1
        probed_at = sink.arrivals[-1].at
        await until(lambda: time.monotonic() - probed_at > PROBE_S - 0.1)
        assert len(sink.arrivals) == failed + 1
        await until_true(conn, EMPTY)
        assert set(sink.events()) == set(sent)
        attempts = Counter(arrival.event_id for arrival in sink.arrivals)
        recorded = await rows(conn, "SELECT event_id::text, state, attempts FROM history")
        assert recorded == [(event_id, "delivered", attempts[str(event_id)]) for event_id, _, _ in recorded]
        assert len(sink.arrivals) == HELD + failed
        assert await rows(conn, "SELECT 1 FROM lanes WHERE gate_reason IS NOT NULL OR probe_until IS NOT NULL") == []
        await until_true(conn, TOLD)


async def test_what_was_handed_out_is_parked_when_its_circuit_opens_and_the_rest_of_its_message_is_sent(
    shop: Shop, conn: Conn, start_worker: StartWorker
) -> None:
    with Sink() as sink:
        held = await shop.endpoint(sink.url("/held"))
        await shop.endpoint(sink.url("/free"))
        await shop.send(HELD)
        dispatched = await fan_out(shop)
        assert len(dispatched) == 2 * HELD
        await gates.open_circuits(conn, [(held, 0)])
        await shop.web.queue.enqueue(hints_for(dispatched))
        start_worker()
        await until(lambda: len(sink.arrivals) == HELD, what="every arrival at the other endpoint")
        await until_true(conn, "SELECT count(*) = 300 AND count(due_at) = 300 FROM live")
        assert sink.by_path() == {"/free": HELD}
        assert await rows(conn, "SELECT DISTINCT endpoint_id, attempts, reason FROM live") == [
            (held, 0, "circuit_open")
        ]
        await rows(
            conn, "UPDATE lanes SET gate_until = now(), ready_at = now() WHERE gate_reason IS NOT NULL RETURNING 1"
        )
        await until_true(conn, EMPTY)
        assert await rows(conn, "SELECT DISTINCT attempts FROM history") == [(1,)]


async def test_without_the_middleware_nothing_opens_and_requests_go_on(
    shop: Shop, conn: Conn, settings: Settings, tmp_path: Path
) -> None:
    with Sink(lambda _: Answer(status=500)) as sink:
        await waiting(shop, sink, circuit_reset_ms=300_000)
        argv = [sys.executable, "-m", "dramatiq", "tests.faults.without_breaker", "--processes", "1", "--threads", "8"]
        worker = Running(argv, environment(settings, PYTHONPATH=str(CHECKOUT)), tmp_path / "worker.log")
        try:
            await until(lambda: len(sink.arrivals) > 2 * HELD, what="requests after many failures")
        finally:
            worker.kill()
            print(worker.text())
        assert await rows(conn, "SELECT 1 FROM lanes WHERE gate_reason IS NOT NULL") == []
