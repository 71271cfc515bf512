"""A webhook as a transformation sees it: what it is given, and what may be made of what it returns."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, replace

import msgspec
from msgspec import UNSET, UnsetType

from relay.catalog.headers import check_headers
from relay.delivery.addresses import check_form
from relay.errors import Invalid
from relay.intake.specs import is_json

METHODS = ("POST", "PUT", "PATCH")


@dataclass(frozen=True, slots=True)
class Webhook:
    """A request that is not yet made. `payload` is JSON text: of what is not JSON, a string of base64."""

    url: str
    headers: dict[str, str]
    payload: bytes
    event_type: str | None = None
    method: str = METHODS[0]
    cancel: bool = False


class _Argument(msgspec.Struct, rename="camel"):
    method: str
    url: str
    headers: dict[str, str]
    payload: msgspec.Raw
    event_type: str | None
    cancel: bool


class _Returned(msgspec.Struct):
    method: str | UnsetType = UNSET
    url: str | UnsetType = UNSET
    headers: dict[str, str] | UnsetType | None = UNSET
    payload: msgspec.Raw = msgspec.Raw(b"")
    cancel: bool | UnsetType = UNSET


_returned = msgspec.json.Decoder(_Returned)


def argument_of(webhook: Webhook) -> bytes:
    """The JSON text that `transform` is called with."""
    payload = msgspec.Raw(webhook.payload)
    return msgspec.json.encode(
        _Argument(webhook.method, webhook.url, webhook.headers, payload, webhook.event_type, webhook.cancel)
    )


def returned_by(answer: bytes, given: Webhook, *, most_bytes: int, before: bytes = b"{}") -> Webhook:
    """The webhook that `transform` made of the given one: what it left out, or left as it was, is the given one's.

    `before` is the given one as the engine wrote it before, to tell whether the payload was changed.

    Raises Invalid, with one sentence, for what cannot be sent; whether Relay may send to the URL is not looked at.
    """
    try:
        found = _returned.decode(answer)
        unchanged = found.payload == _returned.decode(before).payload
    except (msgspec.DecodeError, UnicodeDecodeError) as cause:  # a ValidationError is one, too
        raise Invalid(f"What transform returned is no webhook: {cause}.") from cause
    webhook = replace(
        given,
        method=given.method if found.method is UNSET else found.method,
        url=given.url if found.url is UNSET else found.url,
        headers=given.headers if found.headers is UNSET else found.headers or {},
        payload=given.payload if unchanged or not found.payload else bytes(found.payload),
        cancel=found.cancel is True,
    )
    if not webhook.cancel:
        _check(webhook, given, most_bytes)
    return webhook


def _check(webhook: Webhook, given: Webhook, most_bytes: int) -> None:
    if webhook.method not in METHODS:
        raise Invalid(f"The method must be one of {', '.join(METHODS)}.")
    if webhook.url != given.url:
        check_form(webhook.url)
    if webhook.headers != given.headers:
        check_headers(webhook.headers, field="headers")
    if len(webhook.payload) > most_bytes and webhook.payload != given.payload:
        raise Invalid(f"The payload has {len(webhook.payload)} bytes; the limit is {most_bytes}.")


def payload_text(payload: bytes, *, content_type: str) -> bytes:
    """A stored payload as JSON text."""
    return payload if is_json(content_type) else msgspec.json.encode(base64.b64encode(payload).decode())


def payload_bytes(text: bytes, *, content_type: str) -> bytes:
    """The bytes to send for JSON text; raises Invalid where that had to be base64 and is not."""
    if is_json(content_type):
        return text
    try:
        return base64.b64decode(msgspec.json.decode(text, type=str), validate=True)
    except (msgspec.DecodeError, binascii.Error, ValueError) as cause:
        raise Invalid("The payload must stay a base64 string, for the event's content type is not JSON.") from cause
