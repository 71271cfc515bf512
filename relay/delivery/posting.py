"""One shipment on the wire: its request is built and posted, and what came of it is judged and recorded."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from relay.delivery.answer import asked_to_wait, attempt_of, outcome_of
from relay.delivery.flow import Flow, Shipment
from relay.delivery.oauth import Carrier
from relay.delivery.outcomes import Cancelled, Outcome, Reason, reason_of
from relay.delivery.record import Attempt, Recorded
from relay.delivery.recorder import Recorder
from relay.delivery.request import build_request
from relay.delivery.transforming import Transformed, Transforming
from relay.delivery.transport import Request, Response

if TYPE_CHECKING:
    from relay.delivery.tracing import DeliverySpans

_LOG = logging.getLogger(__name__)


class Posting:
    """Posts shipments, and hands what came of each to the recorder."""

    def __init__(self, transport: Carrier, recorder: Recorder, *, may_send: Callable[[int], bool]) -> None:
        self._transport = transport
        self._recorder = recorder
        self._may_send = may_send
        #: Runs the transformations of endpoints that have one.
        self.transforming: Transforming | None = None
        #: Makes traces of what is sent; None: nobody asked for them.
        self.spans: DeliverySpans | None = None

    def post(self, shipment: Shipment, flow: Flow, *, end: Callable[[], None]) -> None:
        """Send a shipment; `end` is called once there is an outcome."""
        if shipment.destination.unreadable is not None:
            self._not_signed(shipment, shipment.destination.unreadable)
            asyncio.get_running_loop().call_soon(end)
        elif shipment.destination.transformation is not None:
            assert self.transforming is not None
            transformed = self.transforming.begin(shipment, shipment.destination.transformation)
            transformed.add_done_callback(partial(self._transformed, shipment, flow, end))
        else:
            self._send(shipment, flow, end)

    def _transformed(
        self, shipment: Shipment, flow: Flow, end: Callable[[], None], future: asyncio.Future[Transformed]
    ) -> None:
        """After the wait for the sandbox, the process must still have its claims."""
        if future.cancelled() or not self._may_send(shipment.generation):
            shipment.done()
            end()
            return
        found = future.result()
        if isinstance(found, Shipment):
            self._send(found, flow, end)
            return
        if found.reason is None:
            self._record(shipment, Cancelled(Reason.CANCELLED_BY_TRANSFORMATION), None)
        else:
            attempt = Attempt(found.reason, found.url, found.took_s * 1000, error=found.error)
            self._record(shipment, outcome_of(shipment, found.reason), attempt)
        end()

    def _send(self, shipment: Shipment, flow: Flow, end: Callable[[], None]) -> None:
        try:
            request = build_request(shipment.delivery, shipment.content, shipment.destination, now_s=time.time())
            if shipment.method != request.method:
                request = replace(request, method=shipment.method)
        except ValueError as cause:
            _LOG.error("delivery %s cannot be signed: %s", shipment.delivery.id, cause, extra=shipment.delivery.ids)
            self._not_signed(shipment, "Relay could not sign the request.")
            asyncio.get_running_loop().call_soon(end)
            return
        if self.spans is not None:
            request = self.spans.forwarded(request, shipment.delivery)
        future = self._transport.post(request)
        future.add_done_callback(partial(self._answered, shipment, flow, request, end))

    def _answered(
        self,
        shipment: Shipment,
        flow: Flow,
        request: Request,
        end: Callable[[], None],
        future: asyncio.Future[Response],
    ) -> None:
        if future.cancelled():
            shipment.done()
        else:
            self._judge(shipment, flow, request, future.result())
        end()

    def _judge(self, shipment: Shipment, flow: Flow, request: Request, response: Response) -> None:
        reason = response.reason or reason_of(response.status)
        flow.pace.learn(reason, status=response.status, latency_ms=response.timings.total_ms, now_s=time.monotonic())
        asked_s = asked_to_wait(response, shipment.destination.policy)
        status = None if response.reason else response.status
        outcome = outcome_of(shipment, reason, status=status, retry_after_s=asked_s)
        attempt = attempt_of(request, response, reason)
        if shipment.note is not None:
            attempt = replace(attempt, error=" ".join(filter(None, (shipment.note, attempt.error))))
        self._record(shipment, outcome, attempt, retry_after_s=asked_s)

    def _record(
        self, shipment: Shipment, outcome: Outcome, attempt: Attempt | None, *, retry_after_s: float | None = None
    ) -> None:
        """A FIFO lane goes on when its head is recorded, any other when it is answered."""
        recorded = Recorded(
            shipment.delivery,
            outcome,
            attempt,
            retry_after_s=retry_after_s,
            circuit_threshold=shipment.destination.circuit_threshold if attempt is not None else None,
            event_type=shipment.content.event_type or "",
        )
        if shipment.delivery.seq is None:
            self._recorder.add(recorded)
            shipment.done()
        else:
            self._recorder.add(replace(recorded, done=shipment.done))
        if self.spans is not None and attempt is not None:
            self.spans.attempted(shipment.delivery, outcome, attempt)

    def _not_signed(self, shipment: Shipment, why: str) -> None:
        attempt = Attempt(Reason.AUTH_FAILED, shipment.destination.url, 0.0, error=why)
        self._record(shipment, outcome_of(shipment, Reason.AUTH_FAILED), attempt)
