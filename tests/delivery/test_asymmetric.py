"""Ed25519: what Relay signs as `v1a` holds for the public key it shows, and for nothing else."""

from __future__ import annotations

import base64
import time

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from relay.delivery.asymmetric import public_key
from relay.delivery.signing import SignatureScheme, check_endpoint_secret, new_secret, scheme_of, signature_headers
from relay.errors import Invalid

SEEDS = st.binary(min_size=32, max_size=32)


def verify(public: str, signature: str, signed: bytes) -> None:
    """As a receiver does it, with the cryptography package."""
    kind, _, mac = signature.partition(",")
    assert kind == "v1a"
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public.removeprefix("whpk_")))
    key.verify(base64.b64decode(mac), signed)


@given(seed=SEEDS, body=st.binary(max_size=500))
def test_what_is_signed_holds_for_the_public_key_alone(seed: bytes, body: bytes) -> None:
    secret = "whsk_" + base64.b64encode(seed).decode()
    headers = dict(signature_headers(body, webhook_id="evt_1", timestamp=1_760_000_000, secrets=[secret]))
    signed = b"evt_1.1760000000." + body
    verify(public_key(secret), headers["webhook-signature"], signed)
    with pytest.raises(InvalidSignature):
        verify(public_key(secret), headers["webhook-signature"], signed + b" ")
    with pytest.raises(InvalidSignature):
        verify(public_key(new_secret(SignatureScheme.ED25519)), headers["webhook-signature"], signed)
    assert "X-Relay-Signature" not in headers


def test_a_key_with_its_public_half_beside_it_is_the_same_key() -> None:
    secret = new_secret(SignatureScheme.ED25519)
    raw = base64.b64decode(secret.removeprefix("whsk_"))
    assert len(raw) == 64
    assert public_key(secret) == public_key("whsk_" + base64.b64encode(raw[:32]).decode())
    assert public_key(secret) == "whpk_" + base64.b64encode(raw[32:]).decode()


def test_from_one_scheme_to_the_other_both_sign_and_the_library_finds_its_own() -> None:
    new, old = new_secret(SignatureScheme.ED25519), new_secret()
    assert (scheme_of(new), scheme_of(old)) == (SignatureScheme.ED25519, SignatureScheme.HMAC_SHA256)
    headers = dict(signature_headers(b"{}", webhook_id="evt_1", timestamp=int(time.time()), secrets=[new, old]))
    Webhook(old).verify(b"{}", headers)
    assert [one[:3] for one in headers["webhook-signature"].split(" ")] == ["v1a", "v1,"]
    assert headers["X-Relay-Signature"].startswith("v1=")


@pytest.mark.parametrize(
    "text",
    [
        "whsk_",
        "whsk_short",
        "whsk_" + base64.b64encode(bytes(31)).decode(),
        "whsk_" + base64.b64encode(bytes(64)).decode(),
        "whsk_" + "é" * 44,
        "whpk_" + base64.b64encode(bytes(32)).decode(),
    ],
)
def test_what_is_no_key_is_invalid_and_not_repeated(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_endpoint_secret(text)
    assert caught.value.field == "secret"
    assert len(text) == 5 or text not in caught.value.message
