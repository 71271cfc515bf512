"""How Relay signs what it sends, with the Standard Webhooks headers and its own `X-Relay-Signature`, and checks both.

A secret is `whsec_` and the base64 of 24 to 64 random bytes. Standard Webhooks keys its HMAC-SHA256 with those bytes,
`X-Relay-Signature` with the UTF-8 bytes of the whole text as it was shown. An endpoint may have an ed25519 key instead
(see `asymmetric`), which signs the Standard Webhooks headers alone: the receiver has nothing to key an HMAC with.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets as randomness
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from relay.delivery.asymmetric import PRIVATE_PREFIX, new_private_key, private_key
from relay.errors import Invalid

PREFIX = "whsec_"
_KEY_BYTES = range(24, 65)
_BLOCK = 64
_INNER = bytes(b ^ 0x36 for b in range(256))
_OUTER = bytes(b ^ 0x5C for b in range(256))


class SignatureScheme(StrEnum):
    """HMAC_SHA256: both sides have the secret. ED25519: the receiver has a public key, and cannot sign."""

    HMAC_SHA256 = "hmac_sha256"
    ED25519 = "ed25519"


def new_secret(scheme: SignatureScheme = SignatureScheme.HMAC_SHA256) -> str:
    """Make a secret of 32 random bytes."""
    if scheme is SignatureScheme.ED25519:
        return new_private_key()
    return PREFIX + base64.b64encode(randomness.token_bytes(32)).decode()


def scheme_of(secret: str) -> SignatureScheme:
    """Tell by its first characters what a secret signs with."""
    return SignatureScheme.ED25519 if secret.startswith(PRIVATE_PREFIX) else SignatureScheme.HMAC_SHA256


def check_endpoint_secret(text: str, *, field: str = "secret") -> None:
    """Raise `Invalid` on `field` unless the text is what `check_secret` takes, or an ed25519 key."""
    if scheme_of(text) is SignatureScheme.HMAC_SHA256:
        return check_secret(text, field=field)
    try:
        private_key(text)
    except ValueError as cause:
        message = (
            "An ed25519 secret must be whsk_ followed by the base64 of the 32 bytes of a key, or of both its halves."
        )
        raise Invalid(message, field=field) from cause


def check_secret(text: str, *, field: str = "secret") -> None:
    """Raise `Invalid` on `field` unless the text is `whsec_` and the base64 of 24 to 64 bytes."""
    try:
        _key_of(text)
    except ValueError as cause:
        message = "The secret must be whsec_ followed by the base64 of 24 to 64 random bytes."
        raise Invalid(message, field=field) from cause


def _key_of(secret: str) -> bytes:
    if not secret.startswith(PREFIX):
        raise ValueError("no whsec_ in front")
    key = base64.b64decode(secret[len(PREFIX) :].encode("ascii"), validate=True)
    if len(key) not in _KEY_BYTES:
        raise ValueError("not 24 to 64 bytes")
    return key


class _Keyed:
    """HMAC-SHA256 (RFC 2104) with the key already in: two copies of a hash state cost half of a new HMAC object."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes) -> None:
        if len(key) > _BLOCK:
            key = hashlib.sha256(key).digest()
        padded = key.ljust(_BLOCK, b"\0")
        self._inner = hashlib.sha256(padded.translate(_INNER))
        self._outer = hashlib.sha256(padded.translate(_OUTER))

    def sign(self, head: bytes, body: bytes) -> Any:
        """Return the finished hash over head and body, to be read as bytes or as hex."""
        inner = self._inner.copy()
        inner.update(head)
        inner.update(body)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer


@lru_cache(maxsize=4096)
def _keys(secret: str) -> tuple[_Keyed, _Keyed] | Ed25519PrivateKey:
    if secret.startswith(PRIVATE_PREFIX):
        return private_key(secret)
    return _Keyed(_key_of(secret)), _Keyed(secret.encode())


def signature_headers(body: bytes, *, webhook_id: str, timestamp: int, secrets: Sequence[str]) -> list[tuple[str, str]]:
    """Return the headers that sign a body at a time (seconds since 1970), with one signature per secret, newest first.

    Source: Standard Webhooks specification 1.0 for the `webhook-` names. A malformed secret raises ValueError.
    """
    time = str(timestamp)
    relay_head = f"{time}.".encode()
    standard_head = f"{webhook_id}.{time}.".encode()
    standard: list[str] = []
    relay: list[str] = []
    for secret in secrets:
        keys = _keys(secret)
        if not isinstance(keys, tuple):
            signature = binascii.b2a_base64(keys.sign(standard_head + body), newline=False)
            standard.append(f"v1a,{signature.decode()}")
            continue
        by_bytes, by_text = keys
        mac = binascii.b2a_base64(by_bytes.sign(standard_head, body).digest(), newline=False)
        standard.append(f"v1,{mac.decode()}")
        relay.append(f"v1={by_text.sign(relay_head, body).hexdigest()}")
    headers = [
        ("webhook-id", webhook_id),
        ("webhook-timestamp", time),
        ("webhook-signature", " ".join(standard)),
        ("X-Relay-Event-ID", webhook_id),
        ("X-Relay-Timestamp", time),
    ]
    if relay:
        headers.append(("X-Relay-Signature", ",".join(relay)))
    return headers


def verify_standard(headers: Mapping[str, str], body: bytes, secret: str) -> bool:
    """Say whether a signature in `webhook-signature` is this secret's, in constant time; age is not judged."""
    got = {name.lower(): value for name, value in headers.items()}
    head = f"{got.get('webhook-id', '')}.{got.get('webhook-timestamp', '')}.".encode()
    mac = base64.b64encode(hmac.digest(_key_of(secret), head + body, "sha256"))
    return _any_equal(got.get("webhook-signature", "").split(" "), b"v1," + mac)


def verify_relay(headers: Mapping[str, str], body: bytes, secret: str) -> bool:
    """Say whether a signature in `X-Relay-Signature` is this secret's, in constant time; age is not judged."""
    got = {name.lower(): value for name, value in headers.items()}
    head = f"{got.get('x-relay-timestamp', '')}.".encode()
    mac = hmac.digest(secret.encode(), head + body, "sha256").hex()
    return _any_equal(got.get("x-relay-signature", "").split(","), b"v1=" + mac.encode())


def _any_equal(given: Sequence[str], expected: bytes) -> bool:
    found = False
    for signature in given:
        found |= hmac.compare_digest(signature.strip().encode("utf-8", "replace"), expected)
    return found
