from __future__ import annotations

from prometheus_client import CollectorRegistry, Histogram, generate_latest

from relay.metrics.batches import observe_all


def test_many_at_once_are_what_one_by_one_would_be() -> None:
    values = [0.0, 0.005, 0.0051, 0.3, 0.3, 7.0, 1_000.0]
    registries = CollectorRegistry(), CollectorRegistry()
    at_once, one_by_one = (
        Histogram("took_seconds", "How long.", buckets=(0.005, 0.1, 1, 10), registry=registry)
        for registry in registries
    )
    observe_all(at_once, values)
    for value in values:
        one_by_one.observe(value)
    pages = [generate_latest(registry) for registry in registries]
    assert pages[0] == pages[1]
    assert b'took_seconds_bucket{le="+Inf"} 7.0' in pages[0]
