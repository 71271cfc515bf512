"""The HTTP request of a delivery: the stored bytes, the signatures in both header families, and what the endpoint wants."""

from __future__ import annotations

from relay.delivery.authorization import Credentials
from relay.delivery.destinations import Content, Destination
from relay.delivery.live import Claimed
from relay.delivery.signing import signature_headers
from relay.delivery.transport import Request


def build_request(delivery: Claimed, content: Content, destination: Destination, *, now_s: float) -> Request:
    """The request to send at `now_s` (Unix seconds); each attempt sends the same body."""
    secrets = [secret for secret, ends in destination.secrets if ends is None or ends > now_s]
    headers = [("Content-Type", content.content_type)]
    headers += signature_headers(
        content.payload, webhook_id=str(content.event_id), timestamp=int(now_s), secrets=secrets
    )
    headers.append(("webhook-attempt", str(delivery.attempts + 1)))
    if delivery.seq is not None:
        headers.append(("X-Relay-Sequence", str(delivery.seq)))
    if delivery.replay_of is not None:
        headers.append(("relay-replay-of", str(delivery.replay_of)))
    headers += destination.headers
    credentials = destination.credentials
    if credentials is not None:
        return _authorized(headers, credentials, content, destination)
    if content.headers:
        headers += content.headers.items()
    return Request(destination.url, headers, content.payload, destination.timeout_ms)


def _authorized(
    headers: list[tuple[str, str]], credentials: Credentials, content: Content, destination: Destination
) -> Request:
    """The request to an endpoint that wants credentials; an event's headers do not replace those."""
    own = credentials.names()
    headers += [(name, value) for name, value in (content.headers or {}).items() if name.lower() not in own]
    headers += credentials.headers
    if credentials.authorization is not None:
        headers.append(("Authorization", credentials.authorization))
    elif credentials.grant is not None:
        headers.append(("Authorization", "Bearer"))  # the token comes when it is sent
    return Request(
        destination.url,
        headers,
        content.payload,
        destination.timeout_ms,
        credentials=credentials,
    )
