"""Ed25519 signatures (`v1a` of Standard Webhooks): Relay keeps the private key, the receiver verifies with the public one.

A private key is `whsk_` and the base64 of its 32 bytes, or of 64: those and the public key, as libsodium keeps it. A
public key is `whpk_` and the base64 of its 32 bytes.
"""

from __future__ import annotations

import base64
import secrets as randomness

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PRIVATE_PREFIX = "whsk_"
PUBLIC_PREFIX = "whpk_"
_SEED = 32


def new_private_key() -> str:
    """Make a private key."""
    seed = randomness.token_bytes(_SEED)
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    return PRIVATE_PREFIX + base64.b64encode(seed + public).decode()


def private_key(text: str) -> Ed25519PrivateKey:
    """Read a private key; raise ValueError for anything else, and for a public key beside it that is another's."""
    if not text.startswith(PRIVATE_PREFIX):
        raise ValueError("no whsk_ in front")
    raw = base64.b64decode(text[len(PRIVATE_PREFIX) :].encode("ascii"), validate=True)
    key = Ed25519PrivateKey.from_private_bytes(raw[:_SEED])
    if raw[_SEED:] not in (b"", key.public_key().public_bytes_raw()):
        raise ValueError("not 32 bytes, nor these and their public key")
    return key


def public_key(text: str) -> str:
    """Return the public key of a private one, as receivers take it."""
    return PUBLIC_PREFIX + base64.b64encode(private_key(text).public_key().public_bytes_raw()).decode()
