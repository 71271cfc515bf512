"""What a customer may write about how Relay authenticates to an endpoint: a login, a token, OAuth2, certificates."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, Field, model_validator

from relay.catalog import certificates
from relay.delivery.authorization import ClientTLS, Grant
from relay.errors import Invalid
from relay.specs import Spec

MAX_SECRET = 4_000
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_TOKEN = re.compile(r"[\x21-\x7e]+", re.ASCII)
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+", re.ASCII)  # RFC 6749, section 3.3
_LONG_ENOUGH = 16
_HINT = 4


class EndpointAuthKind(StrEnum):
    """How Relay says who it is."""

    BASIC = "basic"
    BEARER = "bearer"
    OAUTH2 = "oauth2"


def _plain(text: str) -> str:
    if _CONTROL.search(text):
        raise ValueError("must not hold control characters")
    return text


def _username(text: str) -> str:
    if ":" in text:
        raise ValueError("must not hold a colon, which ends a user name (RFC 7617)")
    return text


def _token(text: str) -> str:
    if not _TOKEN.fullmatch(text):
        raise ValueError("must be printable ASCII without spaces")
    return text


def _scopes(scopes: list[str]) -> list[str]:
    if not all(_SCOPE.fullmatch(scope) for scope in scopes):
        raise ValueError("must hold scopes of printable ASCII without spaces, quotes or backslashes")
    return scopes


Plain = Annotated[str, Field(min_length=1, max_length=MAX_SECRET), AfterValidator(_plain)]


class BasicAuth(Spec):
    """A user name and a password, as RFC 7617 has them."""

    within: ClassVar[str] = "auth.basic."

    username: Annotated[Plain, AfterValidator(_username)]
    password: Annotated[str, Field(max_length=MAX_SECRET), AfterValidator(_plain)] = Field(repr=False)


class OAuth2(Spec):
    """Client credentials: who asks which token endpoint for what."""

    within: ClassVar[str] = "auth.oauth2."

    token_url: str
    client_id: Plain
    client_secret: Plain = Field(repr=False)
    scopes: Annotated[list[str], Field(max_length=100), AfterValidator(_scopes)] | None = None
    audience: Annotated[str, Field(max_length=2_048), AfterValidator(_plain)] | None = None


class EndpointAuth(Spec):
    """Exactly one way to authenticate."""

    within: ClassVar[str] = "auth."

    basic: BasicAuth | None = None
    bearer: Annotated[Plain, AfterValidator(_token)] | None = Field(default=None, repr=False)
    oauth2: OAuth2 | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(way is not None for way in (self.basic, self.bearer, self.oauth2)) != 1:
            raise Invalid("auth must hold exactly one of basic, bearer and oauth2.", field="auth")
        return self

    def shown(self) -> dict[str, Any]:
        """Return what may be seen of it."""
        if self.basic is not None:
            return {"kind": EndpointAuthKind.BASIC, "hint": self.basic.username}
        if self.oauth2 is not None:
            return {"kind": EndpointAuthKind.OAUTH2, "hint": self.oauth2.client_id, "token_url": self.oauth2.token_url}
        assert self.bearer is not None
        return {
            "kind": EndpointAuthKind.BEARER,
            "hint": self.bearer[-_HINT:] if len(self.bearer) >= _LONG_ENOUGH else "",
        }

    def authorization(self) -> str | None:
        """Return the Authorization header's value; None where a token must be asked for."""
        if self.basic is not None:
            login = f"{self.basic.username}:{self.basic.password}"
            return f"Basic {b64encode(login.encode()).decode()}"
        return None if self.bearer is None else f"Bearer {self.bearer}"

    def grant(self) -> Grant | None:
        """Return whom to ask for a token."""
        asked = self.oauth2
        if asked is None:
            return None
        return Grant(asked.token_url, asked.client_id, asked.client_secret, tuple(asked.scopes or ()), asked.audience)


class EndpointTLS(Spec):
    """PEM texts: Relay's certificate (its chain behind it) with its key, the authorities to trust, or both."""

    within: ClassVar[str] = "tls."

    client_certificate: str | None = None
    client_key: str | None = Field(default=None, repr=False)
    ca_certificates: str | None = None

    def checked(self, *, now: datetime) -> tuple[ClientTLS, dict[str, Any]]:
        """Return the texts written anew, and what may be seen of them; raise Invalid for what does not fit together."""
        if self.client_certificate is None and self.client_key is None and self.ca_certificates is None:
            raise Invalid("tls must hold a client certificate, CA certificates or both.", field="tls")
        certificate, key, shown = self._certificate(now)
        authorities = None
        if self.ca_certificates is not None:
            found = certificates.certificates(self.ca_certificates, field="tls.caCertificates")
            for one in found:
                certificates.check_current(one, field="tls.caCertificates", now=now)
            authorities = certificates.written(found)
        return ClientTLS(certificate, key, authorities), {**shown, "custom_ca": authorities is not None}

    def _certificate(self, now: datetime) -> tuple[str | None, str | None, dict[str, Any]]:
        if self.client_certificate is None and self.client_key is None:
            return None, None, {}
        if self.client_certificate is None:
            raise Invalid("tls.clientKey needs its tls.clientCertificate.", field="tls.clientCertificate")
        if self.client_key is None:
            raise Invalid("tls.clientCertificate needs its tls.clientKey.", field="tls.clientKey")
        chain = certificates.certificates(self.client_certificate, field="tls.clientCertificate")
        certificates.check_current(chain[0], field="tls.clientCertificate", now=now)
        key = certificates.private_key(self.client_key, of=chain[0], field="tls.clientKey")
        shown = {
            "subject": chain[0].subject.rfc4514_string(),
            "expires_at": chain[0].not_valid_after_utc.astimezone(UTC).isoformat(),
        }
        return certificates.written(chain), key, shown


def check_together(custom: Sequence[str], secret: Sequence[str], *, has_auth: bool, given: frozenset[str]) -> None:
    """Raise Invalid where two of an endpoint's own settings would write one header; name a field that was `given`."""
    twice = {name.lower() for name in custom} & {name.lower() for name in secret}
    if twice:
        field = "secretHeaders" if "secret_headers" in given else "customHeaders"
        raise Invalid(f"customHeaders and secretHeaders must not both hold {min(twice)}.", field=field)
    for field, names in (("customHeaders", custom), ("secretHeaders", secret)):
        if has_auth and any(name.lower() == "authorization" for name in names):
            raise Invalid(f"{field} must not hold Authorization, which is reserved where auth is set.", field=field)
