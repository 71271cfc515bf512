"""Signing secrets at rest: sealed with AES-256-GCM under a key derived from SIGNING_KEY, and only opened to sign.

Owners are endpoints and, for createEvent, clients. An owner has a current secret and, after a rotation, a previous one
that signs too until it expires.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from relay.db import Conn
from relay.delivery.asymmetric import public_key
from relay.delivery.signing import SignatureScheme, scheme_of
from relay.errors import Invalid, NotFound, Unavailable
from relay.settings import Settings

MAX_OVERLAP_S = 604_800
_NONCE_BYTES = 12
_KEY_ID_BYTES = 8
_HINT_LENGTH = 4
_PURPOSE = b"relay secrets v1"


@dataclass(frozen=True, slots=True)
class Sealed:
    """A secret nobody can read without SIGNING_KEY; `key_id` tells which key that was."""

    sealed: bytes
    key_id: bytes


class _Key:
    """What is derived (HKDF-SHA256, RFC 5869) from a SIGNING_KEY."""

    def __init__(self, signing_key: str) -> None:
        key = HKDF(algorithm=SHA256(), length=32, salt=None, info=_PURPOSE).derive(signing_key.encode())
        self.id = hashlib.sha256(key).digest()[:_KEY_ID_BYTES]
        self.aead = AESGCM(key)


class Vault:
    """Seals secrets with SIGNING_KEY, and opens what was sealed with it or with SIGNING_KEY_PREVIOUS."""

    def __init__(self, signing_key: str, *, previous: str = "") -> None:
        """`previous` is a key that is only for opening; empty: there is none."""
        self._current = _Key(signing_key)
        self.key_id = self._current.id
        self._keys = {key.id: key for key in (self._current, *([_Key(previous)] if previous else ()))}

    @property
    def key_ids(self) -> list[bytes]:
        """The ids of the keys that open."""
        return list(self._keys)

    @classmethod
    def of(cls, settings: Settings) -> Vault:
        """The vault with the keys of the settings."""
        return cls(settings.signing_key, previous=settings.signing_key_previous)

    def seal(self, secret: str, *, owner: UUID) -> Sealed:
        """Encrypt a secret for one owner; the result is of no use as another owner's."""
        nonce = os.urandom(_NONCE_BYTES)
        return Sealed(nonce + self._current.aead.encrypt(nonce, secret.encode(), owner.bytes), self.key_id)

    def open(self, sealed: bytes, *, owner: UUID, key_id: bytes | None = None) -> str:
        """Decrypt an owner's secret; raise Unavailable when neither key opens it. Without `key_id` each key is tried."""
        if key_id is not None and key_id not in self._keys:
            raise Unavailable(
                f"A secret was stored under the key {key_id.hex()}, which is neither SIGNING_KEY nor SIGNING_KEY_PREVIOUS."
            )
        for key in self._keys.values() if key_id is None else (self._keys[key_id],):
            try:
                return key.aead.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], owner.bytes).decode()
            except (InvalidTag, ValueError):
                continue
        raise Unavailable(
            "A secret cannot be read: it was stored under neither SIGNING_KEY nor SIGNING_KEY_PREVIOUS, or is damaged."
        )


async def store(conn: Conn, *, tenant_id: UUID, owner_id: UUID, secret: str, vault: Vault) -> None:
    """Keep the first secret of an owner."""
    box = vault.seal(secret, owner=owner_id)
    await conn.execute(
        """INSERT INTO secrets (owner_id, slot, tenant_id, sealed, key_id, hint, public_key)
           VALUES (%s, 'current', %s, %s, %s, %s, %s)""",
        (owner_id, tenant_id, box.sealed, box.key_id, secret[-_HINT_LENGTH:], _public_key(secret)),
    )


async def rotate(conn: Conn, *, tenant_id: UUID, owner_id: UUID, secret: str, vault: Vault, overlap_s: int) -> datetime:
    """Make `secret` the current one and return when the one before ends, `overlap_s` seconds from now.

    A previous secret still there is dropped: at most two sign. Raises NotFound, and Invalid for an overlap outside
    0..604 800.
    """
    if not 0 <= overlap_s <= MAX_OVERLAP_S:
        raise Invalid(f"overlapSeconds must be between 0 and {MAX_OVERLAP_S}.", field="overlapSeconds")
    box = vault.seal(secret, owner=owner_id)
    rows = await conn.execute(
        """WITH c AS (
               SELECT owner_id, tenant_id, sealed, key_id, hint, public_key, created_at FROM secrets
               WHERE owner_id = %(owner)s AND tenant_id = %(tenant)s AND slot = 'current' FOR UPDATE),
           p AS (
               INSERT INTO secrets (owner_id, slot, tenant_id, sealed, key_id, hint, public_key, created_at, expires_at)
               SELECT owner_id, 'previous', tenant_id, sealed, key_id, hint, public_key, created_at,
                      now() + make_interval(secs => %(overlap)s) FROM c
               ON CONFLICT (owner_id, slot) DO UPDATE
                   SET sealed = excluded.sealed, key_id = excluded.key_id, hint = excluded.hint,
                       public_key = excluded.public_key, created_at = excluded.created_at, expires_at = excluded.expires_at
               RETURNING owner_id, expires_at)
           UPDATE secrets s SET sealed = %(sealed)s, key_id = %(key_id)s, hint = %(hint)s, public_key = %(public_key)s,
                  created_at = now()
           FROM p WHERE s.owner_id = p.owner_id AND s.slot = 'current' RETURNING p.expires_at""",
        {"owner": owner_id, "tenant": tenant_id, "overlap": overlap_s, "sealed": box.sealed, "key_id": box.key_id,
         "hint": secret[-_HINT_LENGTH:], "public_key": _public_key(secret)},
    )  # fmt: skip
    row = await rows.fetchone()
    if row is None:
        raise NotFound("There is no secret to rotate.")
    await _announce(conn, owner_id)
    return row[0]


def _public_key(secret: str) -> str | None:
    return public_key(secret) if scheme_of(secret) is SignatureScheme.ED25519 else None


async def clear_previous(conn: Conn, *, tenant_id: UUID, owner_id: UUID) -> None:
    """End the overlap now: the previous secret signs no more. Without one, nothing changes."""
    done = await conn.execute(
        "DELETE FROM secrets WHERE owner_id = %s AND tenant_id = %s AND slot = 'previous'", (owner_id, tenant_id)
    )
    if done.rowcount:
        await _announce(conn, owner_id)


@dataclass(frozen=True, slots=True)
class Shown:
    """What may be seen of an owner's secrets: how the current one signs, and until when a previous one signs, too."""

    public_key: str | None = None
    previous_expires_at: datetime | None = None

    @property
    def scheme(self) -> SignatureScheme:
        """How the current secret signs."""
        return SignatureScheme.ED25519 if self.public_key else SignatureScheme.HMAC_SHA256


async def shown(conn: Conn, owner_ids: Iterable[UUID]) -> dict[UUID, Shown]:
    """Return what may be seen of these owners' secrets."""
    rows = await conn.execute(
        """SELECT c.owner_id, c.public_key, p.expires_at FROM secrets c
           LEFT JOIN secrets p ON p.owner_id = c.owner_id AND p.slot = 'previous' AND p.expires_at > now()
           WHERE c.owner_id = ANY(%s::uuid[]) AND c.slot = 'current'""",
        (list(owner_ids),),
    )
    return {owner: Shown(*rest) async for owner, *rest in rows}


async def _announce(conn: Conn, owner_id: UUID) -> None:
    """Raise the version of the endpoints that sign with this owner's secrets, for workers cache those by version."""
    await conn.execute(
        """UPDATE endpoints SET version = version + 1
           WHERE (id = %(owner)s AND kind = 'subscribed') OR (tenant_id = %(owner)s AND kind = 'adhoc')""",
        {"owner": owner_id},
    )


async def current_and_previous(conn: Conn, owner_ids: Iterable[UUID]) -> dict[UUID, list[bytes]]:
    """Return what signs now for each owner, sealed: the current secret, then the previous one while it lasts."""
    rows = await conn.execute(
        """SELECT owner_id, sealed FROM secrets
           WHERE owner_id = ANY(%s::uuid[]) AND (expires_at IS NULL OR expires_at > now()) ORDER BY owner_id, slot""",
        (list(owner_ids),),
    )
    found: dict[UUID, list[bytes]] = {}
    async for owner_id, sealed in rows:
        found.setdefault(owner_id, []).append(bytes(sealed))
    return found
