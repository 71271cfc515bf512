from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import uuid4

import pytest

from relay.errors import Invalid, TooLarge
from relay.intake.accept import NewEvent
from relay.intake.specs import CreateEventSpec, SendEventSpec

TENANT = uuid4()
LIMIT = 1000


def sent(payload: bytes = b'{"a": 1e2}', *, key: str | None = None, **fields: Any) -> NewEvent:
    given: dict[str, Any] = {"event_type": "order.created", **fields}
    spec = SendEventSpec(**given)
    return spec.to_event(TENANT, payload, max_payload_bytes=LIMIT, idempotency_key=key)


def test_what_is_not_said_or_null_gets_the_defaults() -> None:
    plain = NewEvent(TENANT, b'{"a": 1e2}', "order.created")
    assert sent() == plain
    nulls = ("headers", "priority", "deliver_at", "delay_seconds", "idempotency_key", "content_type", "subject")
    assert sent(**dict.fromkeys(nulls)) == plain


def test_camel_case_names_are_taken_too() -> None:
    given: dict[str, Any] = {"eventType": "a", "delaySeconds": 5, "contentType": "application/json"}
    spec = SendEventSpec(**given)
    assert spec.to_event(TENANT, b"1", max_payload_bytes=LIMIT).delay_s == 5


@pytest.mark.parametrize("content_type", ["application/json5", "application/jsonl", "application/x+jsonl;v=1"])
def test_a_type_that_only_begins_like_json_has_its_payload_as_base64(content_type: str) -> None:
    assert sent(b'"aGk="', content_type=content_type).payload == b"hi"
    with pytest.raises(Invalid):
        sent(b"{}", content_type=content_type)


def test_a_json_payload_keeps_its_bytes() -> None:
    text = b'{"n": 12345678901234567890123, "e": "\\u00e9",  "x": 1e2}'
    assert sent(text).payload == text
    assert sent(text, content_type="application/cloudevents+json; charset=utf-8").payload == text


def test_another_content_type_takes_base64() -> None:
    assert sent(b'"aGVsbG8="', content_type="text/plain").payload == b"hello"
    for wrong in (b'"not base64!"', b'{"a": 1}', b"12", b'"aGVsbG8"'):
        with pytest.raises(Invalid, match="base64"):
            sent(wrong, content_type="text/plain")


def test_a_payload_at_the_limit_fits_and_one_byte_more_is_too_large() -> None:
    assert len(sent(b'"' + b"x" * (LIMIT - 2) + b'"').payload) == LIMIT
    with pytest.raises(TooLarge, match="1000") as refused:
        sent(b'"' + b"x" * (LIMIT - 1) + b'"')
    assert refused.value.field == "payload"


def test_times_need_an_offset_and_are_kept_in_utc() -> None:
    cet = datetime(2020, 1, 1, 12, tzinfo=timezone(timedelta(hours=1)))
    for given in (cet, "2020-01-01T12:00:00+01:00", "2020-01-01T11:00:00Z"):
        assert sent(deliver_at=given).deliver_at == datetime(2020, 1, 1, 11, tzinfo=UTC)


def test_one_key_may_be_given_twice_if_it_is_the_same() -> None:
    assert sent(idempotency_key="k").idempotency_key == sent(key="k").idempotency_key == "k"
    assert sent(idempotency_key="k", key="k").idempotency_key == "k"
    with pytest.raises(Invalid, match="differs") as refused:
        sent(idempotency_key="k", key="j")
    assert refused.value.field == "idempotencyKey"


@pytest.mark.parametrize(
    ("given", "field", "allowed"),
    [
        ({"event_type": "relay.x"}, "eventType", "relay."),
        ({"event_type": ""}, "eventType", "1 to 255"),
        ({"event_type": None}, "eventType", "string"),
        ({"priority": 0}, "priority", "between 1 and 10"),
        ({"priority": 11}, "priority", "between 1 and 10"),
        ({"priority": True}, "priority", "whole number"),
        ({"delay_seconds": -1}, "delaySeconds", "between 0"),
        ({"delay_seconds": 2_592_001}, "delaySeconds", "2 592 000"),
        ({"deliver_at": "tomorrow"}, "deliverAt", "ISO 8601"),
        ({"deliver_at": 5}, "deliverAt", "ISO 8601"),
        ({"deliver_at": "2030-01-01T00:00:00"}, "deliverAt", "offset"),
        ({"deliver_at": "0001-01-01T00:00:00+05:00"}, "deliverAt", "ISO 8601"),
        ({"deliver_at": datetime.now(UTC) + timedelta(days=31)}, "deliverAt", "30 days"),
        ({"deliver_at": "2020-01-01T00:00:00Z", "delay_seconds": 1}, "deliverAt", "exclude"),
        ({"idempotency_key": ""}, "idempotencyKey", "at least 1"),
        ({"idempotency_key": "k" * 256}, "idempotencyKey", "at most 255"),
        ({"idempotency_key": "a\0"}, "idempotencyKey", "NUL"),
        ({"subject": "\ud800"}, "subject", "surrogates"),
        ({"content_type": "json"}, "contentType", "media type"),
        ({"content_type": "text/plain\r\nx: y"}, "contentType", "media type"),
        ({"headers": {"content-type": "x"}}, "headers", "reserved"),
        ({"headers": {"a": None}}, "headers", "string"),
        ({"headers": "x"}, "headers", "object"),
        ({"colour": "red"}, "colour", "not a known field"),
    ],
)
def test_a_wrong_field_is_named_with_what_is_allowed(given: dict[str, Any], field: str, allowed: str) -> None:
    with pytest.raises(Invalid) as refused:
        sent(**given)
    assert refused.value.field == field
    assert allowed in refused.value.message


@pytest.mark.parametrize("payload", [b"null", b" null\n", b""])
def test_a_payload_of_null_is_refused(payload: bytes) -> None:
    with pytest.raises(Invalid, match="must not be null"):
        sent(payload)


def test_create_event_goes_to_one_endpoint_and_has_no_type() -> None:
    endpoint = uuid4()
    spec = CreateEventSpec(destination="https://example.com/", max_attempts=1)
    made = spec.to_event(TENANT, b"1", endpoint_id=endpoint, max_payload_bytes=LIMIT, idempotency_key="k")
    assert made == NewEvent(TENANT, b"1", None, endpoint_id=endpoint, max_attempts=1, idempotency_key="k")


@pytest.mark.parametrize("attempts", [0, 102])
def test_create_event_makes_1_to_101_attempts(attempts: int) -> None:
    with pytest.raises(Invalid, match="between 1 and 101"):
        CreateEventSpec(destination="https://example.com/", max_attempts=attempts)
