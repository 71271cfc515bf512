from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from relay.delivery.destinations import Content, Destination
from relay.delivery.live import Claimed
from relay.delivery.request import build_request
from relay.delivery.retry import RetryPolicy
from relay.delivery.signing import new_secret, verify_relay, verify_standard
from relay.delivery.transport import Request

SECRETS = st.binary(min_size=24, max_size=64).map(lambda key: "whsec_" + base64.b64encode(key).decode())
EVENT, ENDPOINT, TENANT = UUID(int=1), UUID(int=2), UUID(int=3)
DELIVERY = Claimed(
    id=UUID(int=4),
    fence=5,
    owner=9,
    tenant_id=TENANT,
    event_id=EVENT,
    endpoint_id=ENDPOINT,
    tier=1,
    lane="",
    attempts=0,
    lost=0,
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
    endpoint_version=1,
)
DESTINATION = Destination(
    id=ENDPOINT,
    version=1,
    tenant_id=TENANT,
    url="https://example.com/hook",
    timeout_ms=30_000,
    max_concurrency=20,
    rate_limit_per_sec=0,
    circuit_threshold=5,
    policy=RetryPolicy(),
    headers=(("X-Custom", "of the endpoint"),),
    secrets=(),
    disabled=False,
    deleted=False,
)


def build(
    body: bytes, secrets: Sequence[tuple[str, float | None]], *, attempts: int = 0, now_s: float | None = None
) -> Request:
    return build_request(
        replace(DELIVERY, attempts=attempts),
        Content(EVENT, body, "application/json", {"X-Producer": "of the event"}, None),
        replace(DESTINATION, secrets=tuple(secrets)),
        now_s=time.time() if now_s is None else now_s,
    )


@given(body=st.binary(max_size=2_000), secret=SECRETS, attempts=st.integers(0, 100))
def test_the_body_is_the_stored_bytes_and_both_signatures_are_of_it(body: bytes, secret: str, attempts: int) -> None:
    request = build(body, [(secret, None)], attempts=attempts)
    headers = dict(request.headers)
    assert request.body == body
    assert verify_standard(headers, body, secret)
    assert verify_relay(headers, body, secret)
    assert headers["webhook-attempt"] == str(attempts + 1)


@given(body=st.text(max_size=500), secret=SECRETS)
def test_the_public_library_verifies_what_is_sent(body: str, secret: str) -> None:
    request = build(body.encode(), [(secret, None)])
    Webhook(secret).verify(request.body.decode(), dict(request.headers), json_parse=False)


@given(body=st.binary(max_size=500), attempts=st.lists(st.integers(0, 100), min_size=2, max_size=5))
def test_every_attempt_sends_the_same_body_and_id(body: bytes, attempts: list[int]) -> None:
    secret = new_secret()
    sent = [build(body, [(secret, None)], attempts=n) for n in attempts]
    assert {request.body for request in sent} == {body}
    assert {dict(request.headers)["webhook-id"] for request in sent} == {str(EVENT)}
    assert {dict(request.headers)["X-Relay-Event-ID"] for request in sent} == {str(EVENT)}


@given(body=st.binary(max_size=500), new=SECRETS, old=SECRETS)
def test_during_a_rotation_either_secret_verifies_in_both_families(body: bytes, new: str, old: str) -> None:
    now_s = time.time()
    headers = dict(build(body, [(new, None), (old, now_s + 60)], now_s=now_s).headers)
    assert len(headers["webhook-signature"].split(" ")) == len(headers["X-Relay-Signature"].split(",")) == 2
    content = f"{headers['X-Relay-Timestamp']}.".encode() + body
    of_each = [f"v1={hmac.new(secret.encode(), content, hashlib.sha256).hexdigest()}" for secret in (new, old)]
    assert headers["X-Relay-Signature"].split(",") == of_each
    for secret in (new, old):
        assert verify_standard(headers, body, secret)


def test_a_secret_that_ended_signs_no_more() -> None:
    now_s = time.time()
    new, old = new_secret(), new_secret()
    headers = dict(build(b"{}", [(new, None), (old, now_s - 1)], now_s=now_s).headers)
    Webhook(new).verify("{}", headers, json_parse=False)
    with pytest.raises(WebhookVerificationError):
        Webhook(old).verify("{}", headers, json_parse=False)
    assert not verify_relay(headers, b"{}", old)


def test_the_endpoints_and_the_events_headers_go_along() -> None:
    request = build(b"{}", [(new_secret(), None)])
    headers = dict(request.headers)
    assert (request.url, request.timeout_ms) == (DESTINATION.url, DESTINATION.timeout_ms)
    assert headers["Content-Type"] == "application/json"
    assert headers["X-Custom"] == "of the endpoint"
    assert headers["X-Producer"] == "of the event"
    assert len({name.lower() for name, _ in request.headers}) == len(request.headers)
