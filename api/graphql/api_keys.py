"""API keys as GraphQL shows them: the text of a key once, when it is made."""

from __future__ import annotations

from datetime import datetime

import strawberry
from strawberry import UNSET

from api.graphql.audited import audited
from api.graphql.context import RelayInfo
from api.graphql.ids import get_id
from api.graphql.inputs import or_null
from api.graphql.needs import Needs
from api.graphql.paging import Connection, first_and_after, listed
from relay.errors import Invalid
from relay.tenancy import api_keys
from relay.tenancy.audit import Subject
from relay.tenancy.scopes import CLIENT_SCOPES, Scope

_ADMIN = [Needs(scope=Scope.ADMIN)]


@strawberry.type
class ApiKey:
    """A key, but for its text."""

    id: strawberry.ID
    name: str
    prefix: str = strawberry.field(description="rly_ and eight characters.")
    scopes: list[Scope]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None = strawberry.field(description="To the minute.")


@strawberry.input
class CreateApiKeyInput:
    """A new key."""

    name: str
    scopes: list[Scope]
    expires_at: datetime | None = UNSET


@strawberry.type(description="The key is shown once.")
class CreatedApiKey:
    """A new key and its text."""

    api_key: ApiKey
    key: str


def api_key_node(record: api_keys.ApiKey) -> ApiKey:
    """Show a key."""
    return ApiKey(
        id=strawberry.ID(str(record.id)),
        name=record.name,
        prefix=record.prefix,
        scopes=[scope for scope in Scope if scope in record.scopes],
        created_at=record.created_at,
        expires_at=record.expires_at,
        revoked_at=record.revoked_at,
        last_used_at=record.last_used_at,
    )


@strawberry.type
class ApiKeyQuery:
    """Keys to look at."""

    @strawberry.field(directives=_ADMIN)
    async def api_keys(self, info: RelayInfo, first: int | None = 20, after: str | None = UNSET) -> Connection[ApiKey]:
        """The client's keys, newest first, the revoked and expired ones included."""
        db, tenant_id = info.context.db, info.context.tenant_id
        at = first_and_after(first, after)
        return await listed(
            db,
            at,
            page=lambda conn, first, after: api_keys.list_(conn, tenant_id, first=first, after=after),
            count=lambda conn: api_keys.count(conn, tenant_id),
            node=api_key_node,
        )


@strawberry.type
class ApiKeyMutation:
    """What can be done with keys."""

    @strawberry.mutation(
        directives=_ADMIN, description="With scopes that the caller has; OPERATOR is given by `relay apikey` only."
    )
    async def create_api_key(self, info: RelayInfo, input: CreateApiKeyInput) -> CreatedApiKey:
        """Make a key."""
        if not CLIENT_SCOPES.issuperset(input.scopes):
            raise Invalid("scopes may be SEND, READ, MANAGE and ADMIN.", field="scopes")
        info.context.caller.require(input.scopes)
        async with audited(info, Subject.API_KEY) as change:
            record, key = await api_keys.create(
                change.conn,
                info.context.tenant_id,
                name=input.name,
                scopes=input.scopes,
                expires_at=or_null(input.expires_at),
            )
            change.subject_id, change.after = record.id, api_keys.audited_fields(record)
        return CreatedApiKey(api_key=api_key_node(record), key=key)

    @strawberry.mutation(directives=_ADMIN, description="It ends within 5 s; revoking it again changes nothing.")
    async def revoke_api_key(self, info: RelayInfo, id: strawberry.ID) -> ApiKey:
        """End a key."""
        key = get_id(id, of="API key")
        async with audited(info, Subject.API_KEY, key) as change:
            revoked = await api_keys.revoke(change.conn, info.context.tenant_id, key)
            change.after = {"revokedAt": revoked.revoked_at}
        return api_key_node(revoked)
