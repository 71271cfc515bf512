"""How Relay authenticates to an endpoint, as GraphQL takes it and, without its secrets, shows it."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import strawberry
from strawberry import UNSET

from api.graphql.context import RelayInfo
from relay.catalog.credentials import Shown
from relay.catalog.destination_auth import EndpointAuthKind


@strawberry.input
class BasicAuthInput:
    """A user name and a password."""

    username: str
    password: str


@strawberry.input
class OAuth2Input:
    """Client credentials."""

    token_url: str
    client_id: str
    client_secret: str
    scopes: list[str] | None = UNSET
    audience: str | None = UNSET


@strawberry.input(one_of=True)
class EndpointAuthInput:
    """One way to authenticate."""

    basic: BasicAuthInput | None = UNSET
    bearer: str | None = UNSET
    oauth2: OAuth2Input | None = UNSET


@strawberry.input(name="EndpointTLSInput", description="PEM texts.")
class EndpointTLSInput:
    """Certificates."""

    client_certificate: str | None = UNSET
    client_key: str | None = UNSET
    ca_certificates: str | None = UNSET


@strawberry.type
class EndpointAuth:
    """Who Relay is there."""

    kind: EndpointAuthKind
    hint: str = strawberry.field(description="User name, client id or the token's last four characters.")
    token_url: str | None


@strawberry.type(name="EndpointTLS")
class EndpointTLS:
    """How Relay connects there."""

    client_certificate_subject: str | None
    client_certificate_expires_at: datetime | None
    custom_ca: bool = strawberry.field(name="customCA")


@strawberry.type
class EndpointCredentials:
    """What of an endpoint is write-only, and what of it may be seen; the type Endpoint takes its fields over."""

    key: strawberry.Private[UUID]

    @strawberry.field(description="Names only: values are write-only.")
    async def secret_header_names(self, info: RelayInfo) -> list[str]:
        """Which secret headers it has."""
        return list((await self._shown(info)).header_names)

    @strawberry.field(description="How Relay authenticates there; secrets are write-only.")
    async def auth(self, info: RelayInfo) -> EndpointAuth | None:
        """Who Relay is there."""
        shown = await self._shown(info)
        if shown.auth_kind is None:
            return None
        return EndpointAuth(kind=shown.auth_kind, hint=shown.auth_hint, token_url=shown.token_url)

    @strawberry.field
    async def tls(self, info: RelayInfo) -> EndpointTLS | None:
        """How Relay connects there."""
        shown = await self._shown(info)
        if not shown.has_tls:
            return None
        return EndpointTLS(
            client_certificate_subject=shown.certificate_subject,
            client_certificate_expires_at=shown.certificate_expires_at,
            custom_ca=shown.custom_ca,
        )

    async def _shown(self, info: RelayInfo) -> Shown:
        return await info.context.loaders.credentials.load(self.key) or Shown()
