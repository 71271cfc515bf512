"""What is seen of an endpoint's secrets: those fields of Endpoint that tell how it is signed. Never a secret."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import strawberry

from api.graphql.context import RelayInfo
from api.graphql.policies import EndpointPolicy
from relay.catalog.secrets import Shown
from relay.delivery.signing import SignatureScheme


@strawberry.type
class SignedEndpoint(EndpointPolicy):
    """An endpoint with how it is signed."""

    key: strawberry.Private[UUID]

    @strawberry.field
    async def has_previous_secret(self, info: RelayInfo) -> bool:
        """Whether an old secret signs, too."""
        return (await _shown(info, self.key)).previous_expires_at is not None

    @strawberry.field
    async def previous_secret_expires_at(self, info: RelayInfo) -> datetime | None:
        """Until when it does."""
        return (await _shown(info, self.key)).previous_expires_at

    @strawberry.field
    async def signature(self, info: RelayInfo) -> SignatureScheme:
        """How it is signed."""
        return (await _shown(info, self.key)).scheme

    @strawberry.field(description="ED25519 only: whpk_...")
    async def public_key(self, info: RelayInfo) -> str | None:
        """What the receiver verifies with."""
        return (await _shown(info, self.key)).public_key


async def _shown(info: RelayInfo, key: UUID) -> Shown:
    return await info.context.loaders.secrets.load(key) or Shown()
