"""What stands around an event's payload on the wire, and its compression: a request body and the headers that tell of it.

Payloads are put into envelopes as the bytes they are: no number and no space in them changes. All attempts of an event
to an endpoint have the same body.
"""

from __future__ import annotations

import json
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote
from uuid import UUID

from relay.catalog.policies import PayloadFormat
from relay.delivery.destinations import Content
from relay.ids import unix_time
from relay.intake.specs import JSON_TYPE, is_json

CLOUDEVENTS = frozenset((PayloadFormat.CLOUDEVENTS_BINARY, PayloadFormat.CLOUDEVENTS_STRUCTURED))
_STRUCTURED_TYPE = "application/cloudevents+json"
_ATTRIBUTE = "ce-"
_UNTYPED = "relay.untyped"
#: What a header value of an attribute may hold as it is: printable ASCII but space, quote and percent sign.
_PLAIN = "!#$&'()*+,/:;<=>?@[\\]^`{|}"
# Compressed while others wait: twice the speed for a few percent of the size.
_LEVEL = 1
_GZIP = 16 + zlib.MAX_WBITS


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A body with its type, and the headers that belong to it."""

    body: bytes
    content_type: str
    headers: tuple[tuple[str, str], ...] = ()


def wrap(content: Content, format: PayloadFormat, *, tenant_id: UUID) -> Wrapped:
    """Return an event as the format writes it; RAW is the payload alone.

    Sources: Standard Webhooks 1.0, "Payload structure"; CloudEvents 1.0.2, its JSON format and its HTTP binding.
    """
    return _FORMATS[format](content, tenant_id)


def gzipped(wrapped: Wrapped) -> Wrapped:
    """Return it compressed (RFC 1952), equal bodies to equal bytes."""
    packer = zlib.compressobj(_LEVEL, wbits=_GZIP)
    body = packer.compress(wrapped.body) + packer.flush()
    return Wrapped(body, wrapped.content_type, (*wrapped.headers, ("Content-Encoding", "gzip")))


def without_attributes(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return headers without those that would pass for attributes of a CloudEvent, or make a structured one binary."""
    return [(name, value) for name, value in headers if not name.lower().startswith(_ATTRIBUTE)]


def _raw(content: Content, _tenant_id: UUID) -> Wrapped:
    return Wrapped(content.payload, content.content_type)


def _standard_webhooks(content: Content, _tenant_id: UUID) -> Wrapped:
    head: dict[str, str] = {"type": content.event_type or _UNTYPED, "timestamp": _time(content.event_id)}
    if is_json(content.content_type):
        return Wrapped(_with_data(head, "data", content.payload), JSON_TYPE)
    head["contentType"] = content.content_type
    return Wrapped(_with_data(head, "data", _base64(content.payload)), JSON_TYPE)


def _cloudevents_binary(content: Content, tenant_id: UUID) -> Wrapped:
    attributes = _attributes(content, tenant_id).items()
    headers = tuple((_ATTRIBUTE + name, quote(value, safe=_PLAIN)) for name, value in attributes)
    return Wrapped(content.payload, content.content_type, headers)


def _cloudevents_structured(content: Content, tenant_id: UUID) -> Wrapped:
    head = {**_attributes(content, tenant_id), "datacontenttype": content.content_type}
    if is_json(content.content_type):
        return Wrapped(_with_data(head, "data", content.payload), _STRUCTURED_TYPE)
    return Wrapped(_with_data(head, "data_base64", _base64(content.payload)), _STRUCTURED_TYPE)


_FORMATS: dict[PayloadFormat, Callable[[Content, UUID], Wrapped]] = {
    PayloadFormat.RAW: _raw,
    PayloadFormat.STANDARD_WEBHOOKS: _standard_webhooks,
    PayloadFormat.CLOUDEVENTS_BINARY: _cloudevents_binary,
    PayloadFormat.CLOUDEVENTS_STRUCTURED: _cloudevents_structured,
}


def _attributes(content: Content, tenant_id: UUID) -> dict[str, str]:
    """The context attributes: `source` is the client, so that it and `id` name an event once in all systems."""
    attributes = {
        "specversion": "1.0",
        "id": str(content.event_id),
        "source": f"urn:uuid:{tenant_id}",
        "type": content.event_type or _UNTYPED,
        "time": _time(content.event_id),
    }
    if content.subject is not None:
        attributes["subject"] = content.subject
    return attributes


def _time(event_id: UUID) -> str:
    """When the event was accepted: it stands in its id."""
    moment = datetime.fromtimestamp(unix_time(event_id), UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _base64(payload: bytes) -> bytes:
    return b'"' + b64encode(payload) + b'"'


def _with_data(head: dict[str, str], name: str, data: bytes) -> bytes:
    """The JSON object of `head` with one member more, whose value is JSON text already."""
    return b'%s,"%s":%s}' % (json.dumps(head, separators=(",", ":")).encode()[:-1], name.encode(), data)
