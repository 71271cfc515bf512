"""PEM texts that a customer gives: parsed, checked to fit together, and written anew, so that junk is never kept."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from relay.errors import Invalid

MAX_PEM = 65_536
MAX_CERTIFICATES = 50
_LEAST_RSA_BITS = 2048


def certificates(pem: str, *, field: str) -> Sequence[x509.Certificate]:
    """Return the certificates of a PEM text, the first one first; raise Invalid on `field`."""
    try:
        found = x509.load_pem_x509_certificates(_bytes(pem, field=field))
        for certificate in found:
            certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as cause:
        raise Invalid(f"{field} must hold X.509 certificates in PEM.", field=field) from cause
    if len(found) > MAX_CERTIFICATES:
        raise Invalid(f"{field} must hold at most {MAX_CERTIFICATES} certificates.", field=field)
    return found


def check_current(certificate: x509.Certificate, *, field: str, now: datetime) -> None:
    """Raise Invalid on `field` for a certificate that has expired."""
    if certificate.not_valid_after_utc <= now:
        raise Invalid(f"{field} expired on {certificate.not_valid_after_utc:%Y-%m-%d}.", field=field)


def private_key(pem: str, *, of: x509.Certificate, field: str) -> str:
    """Return the private key of this certificate as PEM without a password; raise Invalid on `field`."""
    key = _key(pem, field=field)
    if isinstance(key, RSAPrivateKey) and key.key_size < _LEAST_RSA_BITS:
        raise Invalid(f"{field} must be an RSA key of at least {_LEAST_RSA_BITS} bits.", field=field)
    spki = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*spki) != of.public_key().public_bytes(*spki):
        raise Invalid(f"{field} is not the key of the certificate.", field=field)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _key(pem: str, *, field: str) -> PrivateKeyTypes:
    try:
        return load_pem_private_key(_bytes(pem, field=field), password=None)
    except TypeError as cause:
        raise Invalid(f"{field} must not be protected by a password.", field=field) from cause
    except (ValueError, UnsupportedAlgorithm) as cause:
        raise Invalid(f"{field} must be a private key in PEM.", field=field) from cause


def _bytes(pem: str, *, field: str) -> bytes:
    if len(pem) > MAX_PEM:
        raise Invalid(f"{field} must have at most {MAX_PEM} characters.", field=field)
    return pem.encode("utf-8", "replace")


def written(found: Sequence[x509.Certificate]) -> str:
    """Return certificates as one PEM text."""
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in found).decode()
