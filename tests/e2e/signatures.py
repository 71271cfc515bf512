"""Signatures checked as customers check them: with the public Standard Webhooks package, and by hand."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from tests.sink import Arrival


def assert_signed(arrival: Arrival, *secrets: str) -> None:
    """Both header families must hold for each of these secrets, the newest first, and for no others."""
    headers = arrival.headers
    for secret in secrets:
        Webhook(secret).verify(arrival.body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(secrets[0]).verify(arrival.body + b" ", headers)
    assert len(headers["webhook-signature"].split(" ")) == len(secrets)
    assert headers["x-relay-signature"] == ",".join(f"v1={_by_hand(arrival, secret)}" for secret in secrets)
    assert headers["x-relay-event-id"] == headers["webhook-id"]
    assert headers["x-relay-timestamp"] == headers["webhook-timestamp"]


def _by_hand(arrival: Arrival, secret: str) -> str:
    signed = arrival.headers["x-relay-timestamp"].encode() + b"." + arrival.body
    return hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
