"""The spans of deliveries: an event's fan-out, and each attempt. No payload, no header, and of a URL only the host."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from urllib.parse import urlsplit

from relay.delivery.live import Claimed
from relay.delivery.outcomes import Outcome, Reason
from relay.delivery.record import Attempt, state_of
from relay.delivery.transport import Request
from relay.intake.outbox import Entry
from relay.traces import contexts
from relay.traces.export import Traces

_HEADER = "traceparent"


class DeliverySpans:
    """Tells `traces` what a worker did; `forwards`: requests carry their attempt's span to the endpoint."""

    def __init__(self, traces: Traces, *, forwards: bool) -> None:
        self._traces = traces
        self._forwards = forwards

    def fanned_out(self, entries: Sequence[Entry], matched: Sequence[int], *, since_ns: int) -> None:
        """Events were fanned out, to so many endpoints each, in one transaction that has just ended."""
        now_ns = time.time_ns()
        for entry, deliveries in zip(entries, matched, strict=True):
            event = self._traces.event(entry.event_id)
            self._traces.add(
                "fan_out events",
                "consumer",
                contexts.of_fan_out(event),
                parent=event,
                attributes={
                    "messaging.system": "relay",
                    "messaging.operation.name": "fan_out",
                    "messaging.operation.type": "process",
                    "messaging.destination.name": "events",
                    "messaging.message.id": str(entry.event_id),
                    "messaging.batch.message_count": len(entries),
                    "relay.client.id": str(entry.tenant_id),
                    "relay.deliveries": deliveries,
                },
                start_ns=since_ns,
                end_ns=now_ns,
            )

    def attempted(self, delivery: Claimed, outcome: Outcome, attempt: Attempt) -> None:
        """A request has just ended, and this is what it means."""
        event, now_ns = self._traces.event(delivery.event_id), time.time_ns()
        if not event.sampled:
            return
        self._traces.add(
            "POST",
            "client",
            contexts.of_attempt(event, delivery.id, delivery.fence),
            parent=event,
            attributes={**_of_request(attempt), **_of_delivery(delivery, outcome)},
            start_ns=now_ns - int(attempt.total_ms * 1e6),
            end_ns=now_ns,
        )

    def forwarded(self, request: Request, delivery: Claimed) -> Request:
        """The request with its attempt's span as `traceparent`, if that is wanted and the client gave none of its own."""
        if not self._forwards or any(name.lower() == _HEADER for name, _ in request.headers):
            return request
        span = contexts.of_attempt(self._traces.event(delivery.event_id), delivery.id, delivery.fence)
        return replace(request, headers=[*request.headers, (_HEADER, span.traceparent)])


def _of_request(attempt: Attempt) -> dict[str, str | int]:
    url = urlsplit(attempt.url)
    found: dict[str, str | int] = {
        "http.request.method": "POST",
        # Paths and queries of webhooks are often secrets.
        "url.full": f"{url.scheme}://{url.netloc.rpartition('@')[2]}/REDACTED",
    }
    with suppress(ValueError):  # what is no port
        found["server.port"] = url.port or (443 if url.scheme == "https" else 80)
    if url.hostname:
        found["server.address"] = url.hostname
    if attempt.status is not None:
        found["http.response.status_code"] = attempt.status
    if attempt.peer_ip is not None:
        found["network.peer.address"] = attempt.peer_ip
    if attempt.reason is not Reason.OK:
        found["error.type"] = attempt.reason.value
    return found


def _of_delivery(delivery: Claimed, outcome: Outcome) -> dict[str, str | int]:
    found: dict[str, str | int] = {
        "relay.event.id": str(delivery.event_id),
        "relay.delivery.id": str(delivery.id),
        "relay.endpoint.id": str(delivery.endpoint_id),
        "relay.client.id": str(delivery.tenant_id),
        "relay.attempt": delivery.attempts + 1,
        "relay.outcome": state_of(outcome),
        "relay.reason": outcome.reason.value,
    }
    if delivery.attempts:
        found["http.request.resend_count"] = delivery.attempts
    if delivery.replay_of is not None:
        found["relay.replay_of"] = str(delivery.replay_of)
    return found
