"""Credentials in headers are never stored."""

from __future__ import annotations

import pytest

from relay.delivery.masking import MASK, masked


@pytest.mark.parametrize(
    "name",
    ["Authorization", "Proxy-Authorization", "Cookie", "Set-Cookie", "X-API-Key", "x-apikey", "X-Auth-Token", "My-Secret",
     "X-Password", "X-Session-Id"],
)  # fmt: skip
def test_a_credential_is_masked(name: str) -> None:
    assert masked([(name, "s3cret")]) == {name: MASK}


@pytest.mark.parametrize(
    "name", ["Content-Type", "webhook-signature", "X-Relay-Signature", "webhook-id", "X-Shop", "Idempotency-Key"]
)
def test_anything_else_stays(name: str) -> None:
    assert masked([(name, "value")]) == {name: "value"}
