"""A receiver of OTLP over HTTP, as a collector is one: it takes protobuf, and keeps what it got."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span as OtlpSpan

KINDS = {
    OtlpSpan.SpanKind.Value(f"SPAN_KIND_{name.upper()}"): name for name in ("server", "producer", "consumer", "client")
}


@dataclass(frozen=True)
class Span:
    """A span as it came, ids as in a traceparent."""

    service: str
    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    links: list[tuple[str, str]]
    attributes: dict[str, str | int]
    failed: bool
    start_ns: int
    end_ns: int

    @property
    def id(self) -> tuple[str, str]:
        return self.trace_id, self.span_id


class Receiver:
    """What came, the newest last."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.status = 200
        self.paths: list[str] = []
        self.messages: list[ExportMetricsServiceRequest] = []
        self.spans: list[Span] = []
        self.bytes_of_traces = b""

    def take_spans(self, body: bytes) -> None:
        self.bytes_of_traces += body
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = dict(labels(of_resource.resource.attributes))["service.name"]
            self.spans += [_span(service, one) for scope in of_resource.scope_spans for one in scope.spans]

    def metrics(self) -> dict[str, Metric]:
        """The metrics of the last message by name."""
        (of_resource,) = self.messages[-1].resource_metrics
        (scope,) = of_resource.scope_metrics
        return {metric.name: metric for metric in scope.metrics}

    def resource(self) -> dict[str, str]:
        """Who sent the last message."""
        return dict(labels(self.messages[-1].resource_metrics[0].resource.attributes))

    def numbers(self, name: str) -> dict[tuple[tuple[str, str], ...], float]:
        """The points of a sum or a gauge by their labels."""
        metric = self.metrics()[name]
        points = metric.sum.data_points if metric.HasField("sum") else metric.gauge.data_points
        return {labels(point.attributes): point.as_double for point in points}


def _span(service: str, one: OtlpSpan) -> Span:
    return Span(
        service=service,
        name=one.name,
        kind=KINDS[one.kind],
        trace_id=one.trace_id.hex(),
        span_id=one.span_id.hex(),
        parent_id=one.parent_span_id.hex(),
        links=[(link.trace_id.hex(), link.span_id.hex()) for link in one.links],
        attributes={each.key: each.value.string_value or each.value.int_value for each in one.attributes},
        failed=one.status.code == one.status.STATUS_CODE_ERROR,
        start_ns=one.start_time_unix_nano,
        end_ns=one.end_time_unix_nano,
    )


def labels(attributes: object) -> tuple[tuple[str, str], ...]:
    """Names and values, sorted."""
    pairs: list[tuple[str, str]] = []
    for one in attributes:  # pyright: ignore[reportGeneralTypeIssues]
        assert isinstance(one, KeyValue)
        pairs.append((one.key, one.value.string_value))
    return tuple(sorted(pairs))


@contextmanager
def otlp_receiver() -> Iterator[Receiver]:
    """Run one."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = receiver.status  # who sees the path may set another
            receiver.paths.append(self.path)
            plain = _plain(body, self.headers)
            if self.path.endswith("/v1/traces"):
                receiver.take_spans(plain)
            else:
                receiver.messages.append(ExportMetricsServiceRequest.FromString(plain))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver = Receiver(server.server_port)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join(5)


def _plain(body: bytes, headers: Message) -> bytes:
    assert headers["Content-Type"] == "application/x-protobuf"
    assert headers["Content-Encoding"] == "gzip"
    return gzip.decompress(body)
