"""METRICS_PROVIDER=otel: what a real OTLP receiver gets is what the page would say."""

from __future__ import annotations

import asyncio
import logging
import math
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from relay import metrics
from relay.db import Conn
from relay.metrics.push import Push
from relay.settings import Settings
from relay.up.development import free_port
from tests.documents import ROOT, first_column
from tests.faults.conftest import shop
from tests.otlp_receiver import Receiver, labels, otlp_receiver
from tests.running import until, until_true, worker
from tests.shop import Shop
from tests.sink import Sink

__all__ = ["shop"]
Key = tuple[str, tuple[tuple[str, str], ...]]


def page() -> dict[Key, float]:
    """Every sample of the page."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }


def received(receiver: Receiver) -> dict[Key, float]:
    """What came last, as Prometheus writes it down."""
    found: dict[Key, float] = {}
    for name, metric in receiver.metrics().items():
        if not metric.HasField("histogram"):
            found |= {(name, key): value for key, value in receiver.numbers(name).items()}
        for point in metric.histogram.data_points:
            own, up_to = labels(point.attributes), 0
            for bound, count in zip([*point.explicit_bounds, math.inf], point.bucket_counts, strict=True):
                up_to += count
                le = "+Inf" if math.isinf(bound) else repr(float(bound))
                found[f"{name}_bucket", tuple(sorted([*own, ("le", le)]))] = up_to
            found[f"{name}_count", own] = point.count
            found[f"{name}_sum", own] = point.sum
    return found


async def test_what_is_pushed_is_what_the_page_says() -> None:
    metrics.ATTEMPTS.labels("ok").inc(3)
    for seconds in (0.001, 0.3, 100.0):
        metrics.ATTEMPT_SECONDS.observe(seconds)
    metrics.DATABASE_SECONDS.labels("record").observe(0.002)
    metrics.cluster.WORST.set(5, "an endpoint")
    with otlp_receiver() as receiver:
        await Push(receiver.url, service="relay-worker").end()
        shown = {key: value for key, value in page().items() if key[0].startswith("relay_")}
        assert {key: value for key, value in received(receiver).items() if key[0].startswith("relay_")} == shown
        assert receiver.paths == ["/v1/metrics"]
        assert receiver.resource()["service.name"] == "relay-worker"
        assert receiver.metrics()["relay_attempts_total"].sum.is_monotonic
    metrics.cluster.drop()


async def test_it_pushes_again_and_again_and_goes_on_when_the_receiver_was_away(
    caplog: pytest.LogCaptureFixture,
) -> None:
    port = free_port()
    away = Push(f"http://127.0.0.1:{port}/own/path", service="relay-web", every_s=0.02)
    with caplog.at_level(logging.WARNING), otlp_receiver() as receiver:
        pushing = asyncio.ensure_future(away.run())
        await until(lambda: "metrics are not taken by METRICS_ENDPOINT" in caplog.text, 5)
        away._receiver.url = f"{receiver.url}/own/path"
        await until(lambda: len(receiver.messages) > 2, 5)
        receiver.status = 503
        before = len(receiver.messages)
        await until(lambda: len(receiver.messages) > before + 2, 5)
        pushing.cancel()
    assert set(receiver.paths) == {"/own/path"}
    assert len(caplog.records) == 1  # no other within a minute


async def test_one_process_pushes_for_all_and_the_last_one_leaves_the_totals_of_all(
    settings: Settings, shop: Shop, conn: Conn, tmp_path: Path
) -> None:
    with otlp_receiver() as receiver, Sink() as sink:
        own = settings.model_copy(update={"metrics_provider": "otel", "metrics_endpoint": receiver.url})
        running = worker(own, tmp_path / "worker.log", processes=2)
        try:
            await shop.endpoint(sink.url())
            await shop.send(300)
            await until_true(conn, "SELECT count(*) = 300 FROM history")
            running.stop()
        finally:
            running.kill()
        assert sum(receiver.numbers("relay_attempts_total").values()) == len(sink.arrivals) == 300
        assert receiver.numbers("relay_outcomes_total") == {(("reason", "ok"), ("state", "delivered")): 300}
        assert receiver.metrics()["relay_attempt_duration_seconds"].histogram.data_points[0].count == 300
        documented = {
            cell.strip("`") for cell in first_column(ROOT / "docs/operations.md", "| metric | labels | counts |")
        }
        assert receiver.metrics().keys() <= documented
        assert len({str(one.resource_metrics[0].resource) for one in receiver.messages}) == 1
