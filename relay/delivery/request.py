"""The HTTP request of a delivery: the payload in its format, signatures of both families, and what the endpoint wants."""

from __future__ import annotations

from collections.abc import Sequence

from relay.catalog.policies import PayloadFormat
from relay.delivery.destinations import Content, Destination
from relay.delivery.formats import CLOUDEVENTS, gzipped, without_attributes, wrap
from relay.delivery.live import Claimed
from relay.delivery.signing import signature_headers
from relay.delivery.transport import Request


def build_request(delivery: Claimed, content: Content, destination: Destination, *, now_s: float) -> Request:
    """The request to send at `now_s` (Unix seconds); each attempt of the same content sends the same body."""
    body, headers = _body(content, destination)
    secrets = [secret for secret, ends in destination.secrets if ends is None or ends > now_s]
    headers += signature_headers(body, webhook_id=str(content.event_id), timestamp=int(now_s), secrets=secrets)
    headers.append(("webhook-attempt", str(delivery.attempts + 1)))
    if delivery.seq is not None:
        headers.append(("X-Relay-Sequence", str(delivery.seq)))
    if delivery.replay_of is not None:
        headers.append(("relay-replay-of", str(delivery.replay_of)))
    headers += _given(content, destination)
    credentials = destination.credentials
    if credentials is None:
        return Request(destination.url, headers, body, destination.timeout_ms)
    if credentials.authorization is not None:
        headers.append(("Authorization", credentials.authorization))
    elif credentials.grant is not None:
        headers.append(("Authorization", "Bearer"))  # the token comes when it is sent
    return Request(destination.url, headers, body, destination.timeout_ms, credentials=credentials)


def _body(content: Content, destination: Destination) -> tuple[bytes, list[tuple[str, str]]]:
    """What is sent, and the headers that tell what it is."""
    if destination.format is PayloadFormat.RAW and not destination.gzip:
        return content.payload, [("Content-Type", content.content_type)]
    wrapped = wrap(content, destination.format, tenant_id=destination.tenant_id)
    if destination.gzip:
        wrapped = gzipped(wrapped)
    return wrapped.body, [("Content-Type", wrapped.content_type), *wrapped.headers]


def _given(content: Content, destination: Destination) -> Sequence[tuple[str, str]]:
    """The endpoint's headers and the event's, which replace neither credentials nor what the format says."""
    given, credentials = list(destination.headers), destination.credentials
    if credentials is not None:
        own = credentials.names()
        given += [(name, value) for name, value in (content.headers or {}).items() if name.lower() not in own]
        given += credentials.headers
    elif content.headers:
        given += content.headers.items()
    return without_attributes(given) if destination.format in CLOUDEVENTS else given
