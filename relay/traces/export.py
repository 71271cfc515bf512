"""Sends spans to an OTLP receiver, batch by batch, from a queue that is bounded.

Spans come when they are over, with their times, so nothing is open meanwhile. What the receiver does not take now is
tried again while there is room, and then goes lost: tracing never holds anybody up.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Literal
from uuid import UUID

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from relay import __version__
from relay.otlp_http import OtlpReceiver
from relay.traces import contexts
from relay.traces.contexts import SpanContext

MAX_KEPT = 10_000
_BATCH = 500
_EVERY_S = 1.0
#: An attempt to send, and what is waited for at the end.
_TIMEOUT_S = 2.0
_MAX_LINKS = 128
_KINDS = {
    "server": Span.SpanKind.SPAN_KIND_SERVER,
    "client": Span.SpanKind.SPAN_KIND_CLIENT,
    "producer": Span.SpanKind.SPAN_KIND_PRODUCER,
    "consumer": Span.SpanKind.SPAN_KIND_CONSUMER,
}
_FAILED = Status(code=Status.StatusCode.STATUS_CODE_ERROR)

Attributes = Mapping[str, str | int]


class Traces:
    """One per process; all of it belongs onto the event loop."""

    def __init__(self, endpoint: str, *, service: str, ratio: float) -> None:
        """`endpoint`: the receiver's URL; without a path, `/v1/traces` below it. `ratio`: the part that is sampled."""
        self.ratio = ratio
        warning = "traces are not taken by TRACES_ENDPOINT, and may go lost"
        self._receiver = OtlpReceiver(endpoint, path="/v1/traces", warning=warning)
        self._resource = {
            "service.name": service,
            "service.version": __version__,
            "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
            "host.name": socket.gethostname(),
        }
        self._waiting: deque[Span] = deque()
        self._sending: asyncio.Task[None] | None = None
        self._ending = asyncio.Event()

    def event(self, event_id: UUID) -> SpanContext:
        """The span under which all spans of an event stand, whichever process makes them."""
        return contexts.of_event(event_id, ratio=self.ratio)

    def add(
        self,
        name: str,
        kind: Literal["server", "producer", "consumer", "client"],
        span: SpanContext,
        *,
        parent: SpanContext | None = None,
        links: Sequence[SpanContext] = (),
        attributes: Attributes,
        start_ns: int,
        end_ns: int,
    ) -> None:
        """Send a span soon, if it is sampled and there is room; one with an `error.type` failed. The first 128 links count."""
        if not span.sampled or len(self._waiting) >= MAX_KEPT:
            return
        self._waiting.append(
            Span(
                trace_id=span.trace_id,
                span_id=span.span_id,
                parent_span_id=parent.span_id if parent is not None else b"",
                name=name,
                kind=_KINDS[kind],
                start_time_unix_nano=start_ns,
                end_time_unix_nano=max(start_ns, end_ns),
                attributes=_attributes(attributes),
                links=[Span.Link(trace_id=one.trace_id, span_id=one.span_id) for one in links[:_MAX_LINKS]],
                dropped_links_count=max(0, len(links) - _MAX_LINKS),
                status=_FAILED if "error.type" in attributes else None,
            )
        )
        if self._sending is None or self._sending.done():
            self._sending = asyncio.get_running_loop().create_task(self._send())

    async def end(self) -> None:
        """Send what is left, for 2 s at most."""
        self._ending.set()
        if self._sending is not None:
            await asyncio.wait([self._sending], timeout=_TIMEOUT_S)
            self._sending.cancel()

    async def _send(self) -> None:
        """Gather for a second and send all, until there is nothing more."""
        while self._waiting:
            with suppress(TimeoutError):
                async with asyncio.timeout(_EVERY_S):
                    await self._ending.wait()
            while self._waiting and await self._send_batch():
                pass
            if self._ending.is_set():
                return

    async def _send_batch(self) -> bool:
        batch = list(islice(self._waiting, _BATCH))
        if not await asyncio.to_thread(self._post, batch):
            return False
        for _ in batch:
            self._waiting.popleft()
        return True

    def _post(self, batch: Sequence[Span]) -> bool:
        message = ExportTraceServiceRequest()
        of_resource = message.resource_spans.add()
        of_resource.resource.attributes.extend(_attributes(self._resource))
        scope = of_resource.scope_spans.add()
        scope.scope.name = "relay"
        scope.spans.extend(batch)
        return self._receiver.post(message.SerializeToString(), timeout_s=_TIMEOUT_S)


def _attributes(of: Attributes) -> list[KeyValue]:
    return [KeyValue(key=name, value=_value(value)) for name, value in of.items()]


def _value(value: str | int) -> AnyValue:
    return AnyValue(string_value=value) if isinstance(value, str) else AnyValue(int_value=value)
