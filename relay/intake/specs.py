"""What a producer may write: the inputs of sendEvent and createEvent, with all limits of the contract."""

from __future__ import annotations

import base64
import binascii
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, Field

from relay.catalog.headers import check_headers
from relay.catalog.subscriptions import check_type
from relay.errors import Invalid, TooLarge
from relay.intake.accept import NewEvent
from relay.specs import Spec, Text, between

DEFAULT_PRIORITY = 5
JSON_TYPE = "application/json"
MAX_KEY = 255
FURTHEST_S = 30 * 86_400
#: A time given as exactly 30 days ahead is a little less than that when it arrives; clocks differ the other way.
_CLOCK_SLACK = timedelta(minutes=1)
_NO_MOMENT = "must be an ISO 8601 time with an offset, like 2030-01-31T09:00:00Z or …+02:00"
_CONTENT_TYPE = re.compile(r"[\w!#$&^.+-]{1,100}/[\w!#$&^.+-]{1,100}(?:;[\x20-\x7e]{1,54})?", re.ASCII)
_IS_JSON = re.compile(r"(?:application/json|[^;]*\+json)(?:;|$)", re.IGNORECASE)


def _moment(value: object) -> datetime:
    """REST brings text, GraphQL a datetime; both need an offset."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        if isinstance(moment, datetime) and moment.utcoffset() is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError) as cause:
        raise ValueError(_NO_MOMENT) from cause
    raise ValueError(_NO_MOMENT)


def _type(name: str) -> str:
    check_type(name, field="eventType")
    return name


def _headers(headers: dict[str, str]) -> dict[str, str]:
    check_headers(headers, field="headers")
    return headers


def _content_type(text: str) -> str:
    if not _CONTENT_TYPE.fullmatch(text):
        raise ValueError("must be a media type, like application/json")
    return text


Key = Annotated[Text, Field(min_length=1, max_length=MAX_KEY)]


class _Common(Spec):
    """What both ways of sending share; null means the default."""

    headers: Annotated[dict[str, str], AfterValidator(_headers)] | None = None
    priority: Annotated[int, between(1, 10)] | None = None
    deliver_at: Annotated[datetime, BeforeValidator(_moment)] | None = None
    delay_seconds: Annotated[int, between(0, FURTHEST_S)] | None = None
    content_type: Annotated[str, AfterValidator(_content_type)] | None = None
    subject: Annotated[Text, Field(min_length=1, max_length=255)] | None = None

    def _shared(self, payload: bytes, max_payload_bytes: int) -> dict[str, Any]:
        """The arguments of NewEvent that both kinds have, checked against each other and the clock."""
        if self.deliver_at is not None:
            if self.delay_seconds is not None:
                raise Invalid("deliverAt and delaySeconds exclude each other; give one.", field="deliverAt")
            if self.deliver_at > datetime.now(UTC) + timedelta(seconds=FURTHEST_S) + _CLOCK_SLACK:
                raise Invalid("deliverAt must be at most 30 days ahead.", field="deliverAt")
        content_type = self.content_type or JSON_TYPE
        return {
            "payload": _stored_payload(payload, content_type=content_type, limit=max_payload_bytes),
            "content_type": content_type,
            "priority": self.priority or DEFAULT_PRIORITY,
            "headers": self.headers or None,
            "subject": self.subject,
            "deliver_at": self.deliver_at,
            "delay_s": self.delay_seconds,
        }


class SendEventSpec(_Common):
    """sendEvent: one event for every endpoint subscribed to its type."""

    event_type: Annotated[str, AfterValidator(_type)]
    idempotency_key: Key | None = None

    def to_event(
        self, tenant_id: UUID, payload: bytes, *, max_payload_bytes: int, idempotency_key: str | None = None
    ) -> NewEvent:
        """Return the event to accept. `payload` is the JSON text as it came; a key from outside the input may be given.

        Raises Invalid, and TooLarge for a payload over the limit.
        """
        return NewEvent(
            tenant_id=tenant_id,
            type=self.event_type,
            idempotency_key=_one_key(self.idempotency_key, idempotency_key),
            **self._shared(payload, max_payload_bytes),
        )


class CreateEventSpec(_Common):
    """createEvent: one event for one URL, which `relay.catalog.adhoc` checks and turns into an endpoint."""

    destination: str
    max_attempts: Annotated[int, between(1, 101)] | None = None

    def to_event(
        self,
        tenant_id: UUID,
        payload: bytes,
        *,
        endpoint_id: UUID,
        max_payload_bytes: int,
        idempotency_key: str | None = None,
    ) -> NewEvent:
        """Return the event to accept for the ad-hoc endpoint. Raises Invalid, and TooLarge."""
        return NewEvent(
            tenant_id=tenant_id,
            type=None,
            endpoint_id=endpoint_id,
            max_attempts=self.max_attempts,
            idempotency_key=_one_key(None, idempotency_key),
            **self._shared(payload, max_payload_bytes),
        )


class _KeySpec(Spec):
    idempotency_key: Key | None = None


def _one_key(inside: str | None, outside: str | None) -> str | None:
    """The key of the input or the one beside it (argument, header); both may be given when they are equal."""
    if outside is None:
        return inside
    beside = _KeySpec(idempotency_key=outside).idempotency_key
    if inside is not None and inside != beside:
        raise Invalid("idempotencyKey is given twice and differs.", field="idempotencyKey")
    return beside


def _stored_payload(payload: bytes, *, content_type: str, limit: int) -> bytes:
    """The bytes that are stored and sent: a JSON payload's own text, anything else decoded from its base64 string."""
    if payload.strip() in {b"null", b""}:
        raise Invalid("payload must not be null.", field="payload")
    if not is_json(content_type):
        payload = _decoded(payload)
    if len(payload) > limit:
        raise TooLarge(f"payload has {len(payload)} bytes; the limit is {limit}.", field="payload")
    return payload


def is_json(content_type: str) -> bool:
    """Tell whether a payload of this type is JSON text; of any other type it comes and is shown as base64."""
    return _IS_JSON.match(content_type) is not None


def _decoded(payload: bytes) -> bytes:
    try:
        text = json.loads(payload)
        if isinstance(text, str):
            return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as cause:
        raise _not_base64() from cause
    raise _not_base64()


def _not_base64() -> Invalid:
    return Invalid("payload must be a base64 string, for contentType is not JSON.", field="payload")
