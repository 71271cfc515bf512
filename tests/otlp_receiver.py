"""A receiver of OTLP over HTTP, as a collector is one: it takes protobuf, and keeps what it got."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric


class Receiver:
    """What came, the newest last."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.status = 200
        self.paths: list[str] = []
        self.messages: list[ExportMetricsServiceRequest] = []

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
            receiver.paths.append(self.path)
            receiver.messages.append(ExportMetricsServiceRequest.FromString(_plain(body, self.headers)))
            self.send_response(receiver.status)
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
