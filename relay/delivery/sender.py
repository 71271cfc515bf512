"""The sender of a worker process: keeps each endpoint to its width and the process to its slots.

All plain functions on the event loop: a delivery is offered, sent when there is room, and its outcome handed to the
recorder. Nothing here waits, so an endpoint that never answers holds its own width and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from uuid import UUID

from relay import metrics
from relay.delivery.destinations import Content, Destination
from relay.delivery.live import Claimed
from relay.delivery.masking import masked
from relay.delivery.outcomes import Outcome, Reason, decide, reason_of
from relay.delivery.pace import Pace
from relay.delivery.record import Attempt, Recorded
from relay.delivery.recorder import Recorder
from relay.delivery.request import build_request
from relay.delivery.retry import parse_retry_after
from relay.delivery.transport import Request, Response, Transport

_LOG = logging.getLogger(__name__)
_FLOWS = 10_000
_RECORDER_BEHIND_S = 0.1


@dataclass(frozen=True, slots=True)
class Shipment:
    """A claimed delivery, ready to go. `done` is called once, when it was answered, put back or dropped."""

    delivery: Claimed
    content: Content
    destination: Destination
    generation: int
    done: Callable[[], None] = lambda: None


@dataclass(slots=True)
class _Flow:
    """One endpoint's share of this process."""

    pace: Pace
    in_flight: int = 0
    waiting: deque[Shipment] = field(default_factory=deque[Shipment])


class Sender:
    """Sends shipments; `may_send(generation)` is asked right before each POST whether this process still owns its claims."""

    def __init__(
        self, transport: Transport, recorder: Recorder, *, slots: int, may_send: Callable[[int], bool]
    ) -> None:
        self._transport = transport
        self._recorder = recorder
        self._slots = slots
        self._may_send = may_send
        self._flows: dict[UUID, _Flow] = {}
        self._of_tenant: Counter[UUID] = Counter()
        self._in_flight = 0
        self._stopped = False
        self._room = asyncio.Event()
        self._room.set()

    @property
    def in_flight(self) -> int:
        """Requests that have begun and have no outcome yet."""
        return self._in_flight

    async def wait_for_room(self) -> None:
        """Wait until there is a free slot and the recorder keeps up, or nothing is sent any more."""
        while not self._stopped and (self._in_flight >= self._slots or self._recorder.full):
            self._room.clear()
            if self._in_flight >= self._slots:
                await self._room.wait()
            else:
                await asyncio.sleep(_RECORDER_BEHIND_S)

    def room_for(self, destination: Destination) -> int:
        """How many more of this endpoint's deliveries can be used now: what may be sent, and a little to have at hand."""
        flow = self._flow(destination)
        used = flow.in_flight + len(flow.waiting)
        return max(0, min(flow.pace.width + flow.pace.at_hand(), self._slots_left(destination.tenant_id)) - used)

    def offer(self, shipments: Iterable[Shipment]) -> None:
        """Send what there is room for, keep a little at hand, and put the rest back into its lane."""
        too_many: list[Shipment] = []
        flows: dict[UUID, _Flow] = {}
        for shipment in shipments:
            flow = self._flow(shipment.destination)
            if len(flow.waiting) + flow.in_flight < flow.pace.width + flow.pace.at_hand():
                flow.waiting.append(shipment)
                flows[shipment.destination.id] = flow
            else:
                too_many.append(shipment)
        for flow in flows.values():
            self._start(flow)
        self._put_back(too_many)

    def stop(self) -> None:
        """Begin nothing more, and put back what was not begun."""
        self._stopped = True
        self._slots = 0
        for flow in self._flows.values():
            self._put_back(flow.waiting)
            flow.waiting.clear()
        self._room.set()

    async def wait_until_idle(self) -> None:
        """Wait until every request that was begun has its outcome."""
        while self._in_flight:
            self._room.clear()
            await self._room.wait()

    def _flow(self, destination: Destination) -> _Flow:
        flow = self._flows.get(destination.id)
        if flow is None:
            if len(self._flows) >= _FLOWS:
                self._flows = {id: flow for id, flow in self._flows.items() if flow.in_flight or flow.waiting}
            flow = self._flows[destination.id] = _Flow(Pace(destination.max_concurrency))
        flow.pace.limit(destination.max_concurrency)
        return flow

    def _slots_left(self, tenant_id: UUID) -> int:
        return min(self._slots - self._in_flight, (self._slots + 1) // 2 - self._of_tenant[tenant_id])

    def _start(self, flow: _Flow) -> None:
        while flow.waiting and flow.in_flight < flow.pace.width:
            shipment = flow.waiting[0]
            if self._slots_left(shipment.destination.tenant_id) <= 0:
                self._put_back(flow.waiting)
                flow.waiting.clear()
                return
            flow.waiting.popleft()
            if self._may_send(shipment.generation):
                self._post(shipment, flow)
            else:
                self._put_back([shipment])

    def _post(self, shipment: Shipment, flow: _Flow) -> None:
        try:
            request = build_request(shipment.delivery, shipment.content, shipment.destination, now_s=time.time())
        except ValueError as cause:
            self._not_signed(shipment, cause)
            return
        flow.in_flight += 1
        self._in_flight += 1
        self._of_tenant[shipment.destination.tenant_id] += 1
        self._transport.post(request).add_done_callback(partial(self._answered, shipment, flow, request))

    def _answered(self, shipment: Shipment, flow: _Flow, request: Request, future: asyncio.Future[Response]) -> None:
        flow.in_flight -= 1
        self._in_flight -= 1
        self._of_tenant[shipment.destination.tenant_id] -= 1
        if not future.cancelled():
            response = future.result()
            reason = response.reason or reason_of(response.status)
            metrics.ATTEMPTS.labels(reason.value).inc()
            metrics.ATTEMPT_SECONDS.observe(response.timings.total_ms / 1000)
            flow.pace.learn(reason, status=response.status, latency_ms=response.timings.total_ms)
            status = None if response.reason else response.status
            outcome = _outcome(shipment, reason, status=status, retry_after_s=_asked_to_wait(response))
            self._recorder.add(Recorded(shipment.delivery, outcome, _attempt(request, response, reason)))
        shipment.done()
        self._start(flow)
        self._room.set()

    def _not_signed(self, shipment: Shipment, cause: ValueError) -> None:
        _LOG.error("delivery %s cannot be signed: %s", shipment.delivery.id, cause)
        attempt = Attempt(Reason.AUTH_FAILED, shipment.destination.url, 0.0, error="Relay could not sign the request.")
        self._recorder.add(Recorded(shipment.delivery, _outcome(shipment, Reason.AUTH_FAILED), attempt))
        shipment.done()

    def _put_back(self, shipments: Iterable[Shipment]) -> None:
        shipments = list(shipments)
        if shipments:
            self._recorder.put_back([shipment.delivery for shipment in shipments])
            for shipment in shipments:
                shipment.done()


def _asked_to_wait(response: Response) -> float | None:
    """Seconds that a 429 or 503 asks for (RFC 9110, section 10.2.3)."""
    if response.status not in (429, 503):
        return None
    return parse_retry_after(response.headers.get("retry-after", ""), now_s=time.time())


def _outcome(
    shipment: Shipment, reason: Reason, *, status: int | None = None, retry_after_s: float | None = None
) -> Outcome:
    policy = shipment.destination.policy
    if shipment.content.max_attempts is not None:
        policy = replace(policy, max_retries=shipment.content.max_attempts - 1)
    attempts = shipment.delivery.attempts + 1
    return decide(reason, policy, attempts=attempts, random=random.random, status=status, retry_after_s=retry_after_s)


def _attempt(request: Request, response: Response, reason: Reason) -> Attempt:
    timings = response.timings
    return Attempt(
        reason=reason,
        url=request.url,
        total_ms=timings.total_ms,
        status=response.status or None,
        error=response.error,
        request_headers=masked(request.headers),
        response_headers=masked(response.headers.items()),
        body=response.body,
        body_truncated=response.body_truncated,
        peer_ip=response.peer_ip,
        dns_ms=timings.dns_ms,
        connect_ms=timings.connect_ms,
        tls_ms=timings.tls_ms,
        first_byte_ms=timings.first_byte_ms,
    )
