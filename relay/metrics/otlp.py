"""The metrics in OpenTelemetry's form (OTLP 1): the same names and labels, histograms as they are, all cumulative."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    NumberDataPoint,
    Sum,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric as OtlpMetric
from prometheus_client import Metric
from prometheus_client.samples import Sample

_CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE


def request(
    families: Iterable[Metric], *, resource: Mapping[str, str], since_ns: int, now_ns: int
) -> ExportMetricsServiceRequest:
    """What is to be sent of these; `since_ns`: when the service started, from which on totals count."""
    message = ExportMetricsServiceRequest()
    of_resource = message.resource_metrics.add()
    of_resource.resource.attributes.extend(_attributes(resource))
    scope = of_resource.scope_metrics.add()
    scope.scope.name = "relay"
    for family in families:
        metric = _metric(family, since_ns=since_ns, now_ns=now_ns)
        if metric is not None:
            scope.metrics.append(metric)
    return message


def _metric(family: Metric, *, since_ns: int, now_ns: int) -> OtlpMetric | None:
    """One metric; None for what has no samples, or is of a kind that Relay has none of."""
    samples = [one for one in family.samples if not one.name.endswith("_created")]
    if not samples:
        return None
    if family.type == "histogram":
        points = _histograms(samples, since_ns=since_ns, now_ns=now_ns)
        histogram = Histogram(data_points=points, aggregation_temporality=_CUMULATIVE)
        return OtlpMetric(name=family.name, description=family.documentation, histogram=histogram)
    numbers = [
        NumberDataPoint(
            attributes=_attributes(one.labels),
            start_time_unix_nano=since_ns if family.type == "counter" else 0,
            time_unix_nano=now_ns,
            as_double=one.value,
        )
        for one in samples
    ]
    if family.type == "counter":
        total = Sum(data_points=numbers, aggregation_temporality=_CUMULATIVE, is_monotonic=True)
        return OtlpMetric(name=samples[0].name, description=family.documentation, sum=total)
    if family.type == "gauge":
        return OtlpMetric(name=family.name, description=family.documentation, gauge=Gauge(data_points=numbers))
    return None


def _histograms(samples: Iterable[Sample], *, since_ns: int, now_ns: int) -> list[HistogramDataPoint]:
    """One point for each set of labels. Prometheus counts up to a bound, OTLP between two."""
    buckets: dict[frozenset[tuple[str, str]], dict[float, float]] = {}
    sums: dict[frozenset[tuple[str, str]], float] = {}
    for one in samples:
        labels = frozenset((name, value) for name, value in one.labels.items() if name != "le")
        if one.name.endswith("_bucket"):
            buckets.setdefault(labels, {})[float(one.labels["le"])] = one.value
        elif one.name.endswith("_sum"):
            sums[labels] = one.value
    points: list[HistogramDataPoint] = []
    for labels, up_to in buckets.items():
        bounds = sorted(up_to)
        counts = [up_to[bound] for bound in bounds]
        between = [int(count - before) for count, before in zip(counts, [0.0, *counts[:-1]], strict=True)]
        points.append(
            HistogramDataPoint(
                attributes=_attributes(dict(labels)),
                start_time_unix_nano=since_ns,
                time_unix_nano=now_ns,
                count=int(counts[-1]),
                sum=sums.get(labels, 0.0),
                bucket_counts=between,
                explicit_bounds=bounds[:-1],
            )
        )
    return points


def _attributes(labels: Mapping[str, str]) -> list[KeyValue]:
    return [KeyValue(key=name, value=AnyValue(string_value=value)) for name, value in sorted(labels.items())]
