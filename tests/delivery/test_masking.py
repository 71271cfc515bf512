"""Credentials in headers are never stored."""

from __future__ import annotations

import pytest

from relay.delivery.echoes import without
from relay.delivery.exchange import Response, Timings
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


def test_headers_that_an_endpoint_calls_secret_are_masked_in_any_case() -> None:
    assert masked([("X-Code", "a"), ("X-Open", "b")], secret={"x-code"}) == {"X-Code": MASK, "X-Open": "b"}


def test_a_secret_that_comes_back_is_taken_out_of_the_answer() -> None:
    timings = Timings(0.0, 0.0, 0.0, 0.0, 0.0)
    came = Response(
        200,
        None,
        None,
        {"x-echo": "a s3cret one"},
        b"no s3cret, ok",
        body_truncated=False,
        peer_ip=None,
        timings=timings,
    )
    kept = without(came, ["s3cret", "ok"])  # too short to be told from chance
    assert (kept.headers, kept.body) == ({"x-echo": "a *** one"}, b"no ***, ok")
