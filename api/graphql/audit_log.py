"""The audit log as GraphQL shows it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime

import strawberry
from strawberry import UNSET

from api.graphql.context import RelayInfo
from api.graphql.ids import filter_id
from api.graphql.inputs import or_null
from api.graphql.needs import Needs
from api.graphql.paging import Edge, PageInfo, first_and_after, listed
from api.graphql.scalars import Json
from relay.tenancy import audit
from relay.tenancy.audit import Entry, Wanted
from relay.tenancy.scopes import Scope


@strawberry.type(description="Who changed what; never changed or removed before its retention.")
class AuditEntry:
    """One change."""

    id: strawberry.ID
    at: datetime
    actor: str = strawberry.field(description="Key id and name, or cli.")
    action: str
    subject_type: str
    subject_id: strawberry.ID | None
    before: Json | None = strawberry.field(description="Field by field, secrets masked.")
    after: Json | None
    ip: str | None
    request_id: str | None


@strawberry.type
class AuditEdge:
    """One entry and the cursor behind it."""

    node: AuditEntry
    cursor: str


@strawberry.type
class AuditConnection:
    """One page of the log, newest first."""

    edges: list[AuditEdge]
    nodes: list[AuditEntry]
    page_info: PageInfo
    counter: strawberry.Private[Callable[[], Awaitable[int | None]]]

    @strawberry.field(description="Exact up to 10 000, null beyond; worked out only when asked for.")
    async def total_count(self) -> int | None:
        """Count the whole list."""
        return await self.counter()


@strawberry.input(
    description="All that is given must hold. since is inclusive, until exclusive; actor is a key's id or name, or cli."
)
class AuditFilter:
    """Which entries a list holds."""

    since: datetime | None = UNSET
    until: datetime | None = UNSET
    actor: str | None = UNSET
    action: str | None = UNSET
    subject_id: strawberry.ID | None = UNSET


@strawberry.type
class AuditQuery:
    """Who changed what."""

    @strawberry.field(
        directives=[Needs(scope=Scope.ADMIN)],
        description="The client's entries, newest first; an operator's key that acts for no client sees all.",
    )
    async def audit_log(
        self, info: RelayInfo, filter: AuditFilter | None = UNSET, first: int | None = 20, after: str | None = UNSET
    ) -> AuditConnection:
        """The audit log."""
        db, caller = info.context.db, info.context.caller
        tenant_id = None if caller.sees_all_clients else caller.tenant_id
        at = first_and_after(first, after)
        wanted = _wanted(filter)
        page = await listed(
            db,
            at,
            page=lambda conn, first, after: audit.list_(conn, tenant_id, wanted, first=first, after=after),
            count=lambda conn: audit.count(conn, tenant_id, wanted),
            node=_node,
        )
        return AuditConnection(
            edges=[_edge(edge) for edge in page.edges], nodes=page.nodes, page_info=page.page_info, counter=page.counter
        )


def _wanted(filter: AuditFilter | None) -> Wanted:
    if not filter:
        return Wanted()
    return Wanted(
        since=or_null(filter.since),
        until=or_null(filter.until),
        actor=or_null(filter.actor),
        action=or_null(filter.action),
        subject_id=filter_id(or_null(filter.subject_id), field="subjectId"),
    )


def _edge(edge: Edge[AuditEntry]) -> AuditEdge:
    return AuditEdge(node=edge.node, cursor=edge.cursor)


def _node(entry: Entry) -> AuditEntry:
    return AuditEntry(
        id=strawberry.ID(str(entry.id)),
        at=entry.at,
        actor=entry.who,
        action=entry.action,
        subject_type=entry.subject_type,
        subject_id=None if entry.subject_id is None else strawberry.ID(str(entry.subject_id)),
        before=None if entry.before is None else Json(entry.before),
        after=None if entry.after is None else Json(entry.after),
        ip=entry.ip,
        request_id=entry.request_id,
    )
