"""Transforms shipments before they are sent: the code of the endpoint runs in a sandbox, on the stored event, each time anew.

Nothing is stored of what it returns but the attempt, which shows what was sent.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from functools import partial
from urllib.parse import urlsplit

from relay.catalog.transformations import Transformation, TransformationFailure
from relay.delivery.addresses import Guard, check_url
from relay.delivery.flow import Shipment
from relay.delivery.outcomes import Reason
from relay.delivery.webhooks import Webhook, argument_of, payload_bytes, payload_text, returned_by
from relay.errors import Invalid
from relay.sandbox.pool import Sandbox
from relay.sandbox.process import Answer, NotStarted


@dataclass(frozen=True, slots=True)
class Unsendable:
    """Why what was to be sent is not: an attempt of it ends with this `reason`; None for `reason`: it was cancelled."""

    reason: Reason | None
    error: str | None
    url: str
    took_s: float = 0.0


Transformed = Shipment | Unsendable


class Transforming:
    """Runs transformations; `most_bytes` is the largest payload that one may return."""

    def __init__(self, sandbox: Sandbox, *, guard: Guard, most_bytes: int) -> None:
        self._sandbox = sandbox
        self._guard = guard
        self._most_bytes = most_bytes

    def begin(self, shipment: Shipment, transformation: Transformation) -> asyncio.Future[Transformed]:
        """Begin to transform; the future, which holds no exception, is cancelled when the sandbox closes before the end."""
        destination = shipment.destination
        given = webhook_of(shipment)
        transformed: asyncio.Future[Transformed] = asyncio.get_running_loop().create_future()
        running = self._sandbox.call(
            transformation.code, argument_of(given), tenant=destination.tenant_id, owner=destination.id
        )
        running.add_done_callback(partial(self._ran, shipment, transformation, given, transformed))
        return transformed

    def _ran(
        self,
        shipment: Shipment,
        transformation: Transformation,
        given: Webhook,
        transformed: asyncio.Future[Transformed],
        running: asyncio.Future[Answer],
    ) -> None:
        if running.cancelled():
            transformed.cancel()
        elif isinstance(none := running.exception(), NotStarted):
            transformed.set_result(Unsendable(Reason.TRANSFORMATION_FAILED, str(none), given.url))
        else:
            transformed.set_result(self._judge(shipment, transformation, given, running.result()))

    def _judge(self, shipment: Shipment, transformation: Transformation, given: Webhook, answer: Answer) -> Transformed:
        try:
            if answer.error is not None:
                raise Invalid(answer.error)
            webhook = returned_by(answer.text, given, most_bytes=self._most_bytes, before=answer.before)
            if webhook.cancel:
                return Unsendable(None, None, given.url)
            shipped = _shipped(shipment, webhook)
        except Invalid as wrong:
            error = f"The transformation failed: {wrong}"
            if transformation.on_error is TransformationFailure.SEND_UNCHANGED:
                return replace(shipment, note=f"{error} The event was sent unchanged.")
            return Unsendable(Reason.TRANSFORMATION_FAILED, error, given.url, answer.took_s)
        if webhook.url == given.url:
            return shipped
        try:
            check_url(webhook.url, guard=self._guard)
        except Invalid as forbidden:
            return Unsendable(Reason.ADDRESS_FORBIDDEN, str(forbidden), webhook.url, answer.took_s)
        return shipped


def webhook_of(shipment: Shipment) -> Webhook:
    """What a transformation is given: no signature and no secret, which are added to what it returns."""
    content, destination = shipment.content, shipment.destination
    return Webhook(
        url=destination.url,
        headers={**dict(destination.headers), **(content.headers or {})},
        payload=payload_text(content.payload, content_type=content.content_type),
        event_type=content.event_type,
    )


def _shipped(shipment: Shipment, webhook: Webhook) -> Shipment:
    """What is sent instead. What authenticates Relay to the endpoint goes nowhere else than to the endpoint's own origin."""
    content, destination = shipment.content, shipment.destination
    at_home = webhook.url == destination.url or _origin(webhook.url) == _origin(destination.url)
    return replace(
        shipment,
        method=webhook.method,
        content=replace(
            content,
            payload=payload_bytes(webhook.payload, content_type=content.content_type),
            headers=webhook.headers,
        ),
        destination=replace(
            destination,
            url=webhook.url,
            headers=(),
            credentials=destination.credentials if at_home else None,
        ),
    )


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
