"""The page for a scrape: all processes of this service as one, and what the leader says where it is one of them."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, Metric, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from relay.metrics import cluster, files

CONTENT_TYPE = CONTENT_TYPE_LATEST


def families() -> list[Metric]:
    """Every metric with its samples as of now."""
    if files.FOLDER is None:
        return [*REGISTRY.collect(), *cluster.families()]
    with files.reading(files.FOLDER) as names:
        return [*MultiProcessCollector.merge(names), *cluster.families()]


class _Page(Collector):
    def collect(self) -> Iterable[Metric]:
        return families()


def render() -> bytes:
    """The page as text."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Page())
    return generate_latest(registry)
