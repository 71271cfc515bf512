"""What authenticates Relay to an endpoint, opened: it is held in memory to send, and neither logged nor shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Grant:
    """OAuth2 client credentials (RFC 6749, section 4.4): where and how to ask for an access token."""

    token_url: str
    client_id: str
    client_secret: str = field(repr=False)
    scopes: tuple[str, ...] = ()
    audience: str | None = None


@dataclass(frozen=True, slots=True)
class ClientTLS:
    """PEM texts for one endpoint's connections: Relay's certificate with its key, and the only authorities to trust.

    None: no certificate is shown, the usual authorities are trusted.
    """

    certificate: str | None = None
    key: str | None = field(default=None, repr=False)
    authorities: str | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the requests to an endpoint, as it is in `version`, carry: secret headers, certificates, and a login.

    That is `authorization`, the header's value, or a `grant`, which says whom to ask for a token, or neither.
    """

    endpoint_id: UUID
    version: int
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    authorization: str | None = field(default=None, repr=False)
    grant: Grant | None = None
    tls: ClientTLS | None = None

    def secrets(self) -> list[str]:
        """What must not be kept, wherever it comes back from the endpoint."""
        login = [self.authorization.partition(" ")[2]] if self.authorization else []
        return [value for _, value in self.headers] + login

    def names(self) -> frozenset[str]:
        """The headers, in lower case, that these set and nothing else may set."""
        own = {name.lower() for name, _ in self.headers}
        return frozenset(own | {"authorization"} if self.authorization or self.grant else own)
