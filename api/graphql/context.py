"""What the resolvers of one request share."""

from __future__ import annotations

from functools import cached_property
from uuid import UUID

from strawberry.types import Info

from api.auth import Caller
from api.graphql.loaders import Loaders
from api.sending import Sending
from relay.db import Database
from relay.runtime import Web
from relay.tenancy.audit import Actor


class Context:
    """One GraphQL request: who asks, the process's parts, and loaders that gather single look-ups into batches."""

    def __init__(
        self, *, web: Web, db: Database, sending: Sending, caller: Caller, request_id: str, ip: str | None = None
    ) -> None:
        """`db` is where its fields are read from: the primary, or for what may be stale, perhaps a replica."""
        self.web = web
        self.db = db
        self.sending = sending
        self.caller = caller
        self.request_id = request_id
        self.ip = ip

    @property
    def tenant_id(self) -> UUID:
        """The client whose data the request sees."""
        return self.caller.tenant_id

    @property
    def actor(self) -> Actor:
        """Who the audit log says it was."""
        caller = self.caller
        name = caller.name if caller.key_id else "no key"
        return Actor(name, caller.key_id, acts_for=caller.acts_for, ip=self.ip, request_id=self.request_id)

    @cached_property
    def loaders(self) -> Loaders:
        """The request's loaders."""
        return Loaders(self.db, self.tenant_id, counters=self.web.counters)


RelayInfo = Info[Context, None]
