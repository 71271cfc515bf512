from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from relay.cli import arrivals
from relay.cli.terminal import Paint
from relay.delivery.signing import new_secret, signature_headers
from relay.receiver import Arrival

BODY = b'{"id":1e2,"name":"\\u00e9"}'
SECRET = new_secret()


def _arrival(body: bytes = BODY, *, signed: bytes = BODY, more: dict[str, str] | None = None) -> Arrival:
    headers = signature_headers(signed, webhook_id=str(uuid4()), timestamp=1_760_000_000, secrets=[SECRET])
    named = {name.lower(): value for name, value in headers} | {"webhook-attempt": "2"} | (more or {})
    return Arrival(at=datetime(2026, 3, 1, 12, 0, 0, 1000, tzinfo=UTC), path="/", headers=named, body=body)


def _seen(arrival: Arrival, secret: str = SECRET) -> arrivals.Seen:
    return arrivals.check(arrival, secret=secret, event_type="order.paid", answered=200)


def test_a_delivery_signed_with_the_secret_has_two_ticks() -> None:
    text = arrivals.page(_seen(_arrival()), paint=Paint())
    assert "✓ webhook-signature" in text
    assert "✓ X-Relay-Signature" in text
    assert "order.paid" in text
    assert "attempt 2" in text
    assert '\n      "id": 1e2' in text


@pytest.mark.parametrize(
    ("arrival", "secret"),
    [(_arrival(), new_secret()), (_arrival(signed=b"{}"), SECRET), (_arrival(b""), SECRET)],
    ids=["another secret", "another body", "no body"],
)
def test_a_delivery_that_is_not_signed_so_has_two_crosses(arrival: Arrival, secret: str) -> None:
    text = arrivals.page(_seen(arrival, secret), paint=Paint())
    assert "✗ webhook-signature" in text
    assert "✗ X-Relay-Signature" in text


def test_each_signature_is_judged_for_itself() -> None:
    seen = _seen(_arrival(more={"x-relay-signature": "v1=00"}))
    assert (seen.standard_signature, seen.relay_signature) == (True, False)


def test_a_request_from_somewhere_else_is_shown_as_unsigned() -> None:
    arrival = Arrival(at=datetime.now(UTC), path="/", headers={}, body=b"\x1b[2J")
    text = arrivals.page(_seen(arrival), paint=Paint())
    assert "✗ webhook-signature" in text
    assert "attempt ?" in text
    assert "\x1b" not in text


def test_the_json_form_keeps_the_body_as_it_came() -> None:
    found = arrivals.as_json(_seen(_arrival()))
    assert found["body"] == BODY.decode()
    assert (found["attempt"], found["standardSignature"], found["relaySignature"]) == (2, True, True)
    assert found["receivedAt"] == "2026-03-01T12:00:00.001Z"


def test_the_json_form_gives_bytes_that_are_no_text_in_base64() -> None:
    found = arrivals.as_json(_seen(_arrival(b"\xff\x00")))
    assert found["bodyBase64"] == "/wA="
    assert "body" not in found
