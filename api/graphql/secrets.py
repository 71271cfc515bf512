"""Mutations of endpoints' secrets; a new one is shown once."""

from __future__ import annotations

from datetime import datetime

import strawberry
from strawberry import UNSET

from api.graphql.audited import audited
from api.graphql.context import RelayInfo
from api.graphql.ids import get_id
from api.graphql.inputs import or_null
from api.graphql.needs import Needs
from api.graphql.nodes import Endpoint, endpoint_node
from relay.catalog import endpoint_secrets, endpoints, secrets
from relay.tenancy.audit import Subject
from relay.tenancy.scopes import Scope

_MANAGE = [Needs(scope=Scope.MANAGE)]
_DAY_S = 86_400


@strawberry.type
class EndpointSecretRotation:
    """An endpoint's new secret; the old one signs too until it expires."""

    endpoint: Endpoint
    new_secret: str
    previous_secret_expires_at: datetime


@strawberry.type
class EndpointSecretMutation:
    """Secrets that sign what endpoints get."""

    @strawberry.mutation(
        directives=_MANAGE,
        description="Both secrets sign until the overlap ends (overlapSeconds 0..604 800) or clearPreviousSecret."
        " Bring your own: whsec_ and base64 of 24..64 bytes, or whsk_ and an ed25519 key.",
    )
    async def rotate_endpoint_secret(
        self,
        info: RelayInfo,
        id: strawberry.ID,
        secret: str | None = UNSET,
        overlap_seconds: int | None = _DAY_S,
    ) -> EndpointSecretRotation:
        """Give an endpoint a new secret."""
        tenant_id, key = info.context.tenant_id, get_id(id, of="endpoint")
        async with audited(info, Subject.ENDPOINT, key) as change:
            fresh, ends_at = await endpoint_secrets.rotate(
                change.conn,
                tenant_id,
                key,
                vault=info.context.web.vault,
                secret=or_null(secret),
                overlap_s=_DAY_S if overlap_seconds is None else overlap_seconds,
            )
            record = await endpoints.get(change.conn, tenant_id, key)
            change.after = {"secret": fresh, "previousExpiresAt": ends_at}
        return EndpointSecretRotation(
            endpoint=endpoint_node(record), new_secret=fresh, previous_secret_expires_at=ends_at
        )

    @strawberry.mutation(directives=_MANAGE)
    async def clear_previous_secret(self, info: RelayInfo, id: strawberry.ID) -> Endpoint:
        """End the overlap."""
        tenant_id, key = info.context.tenant_id, get_id(id, of="endpoint")
        async with audited(info, Subject.ENDPOINT, key) as change:
            record = await endpoints.get_locked(change.conn, tenant_id, key)
            known = (await secrets.shown(change.conn, [key])).get(key, secrets.Shown())
            await endpoint_secrets.clear_previous(change.conn, tenant_id, key)
            change.before = {"previousExpiresAt": known.previous_expires_at}
            change.after = {"previousExpiresAt": None}
        return endpoint_node(record)
