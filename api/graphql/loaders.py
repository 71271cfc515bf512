"""Loaders: what many fields of one answer ask for singly is fetched with one statement per kind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import TypeVar
from uuid import UUID

from api.graphql.shared_loads import DataLoader
from relay.catalog import credentials, endpoints, secrets, type_revisions
from relay.catalog.endpoints import Endpoint
from relay.catalog.type_revisions import Revision
from relay.db import Conn, Database
from relay.delivery import attempts, deliveries, gates
from relay.delivery.attempts import Attempt
from relay.delivery.counters import Counters
from relay.delivery.deliveries import Delivery
from relay.delivery.gates import Epoch, Standing
from relay.insight import stats
from relay.insight.latencies import Percentiles
from relay.insight.stats import EndpointStats
from relay.intake import events
from relay.intake.events import Event, Progress
from relay.queue import UNREACHABLE
from relay.tenancy import tenants

V = TypeVar("V")
Fetch = Callable[[Conn, list[UUID]], Awaitable[dict[UUID, V]]]


class Loaders:
    """The loaders of one request, for one client's data."""

    def __init__(self, db: Database, tenant_id: UUID, *, counters: Counters) -> None:
        self._db = db
        self._tenant_id = tenant_id
        self._counters = counters
        self.events: DataLoader[UUID, Event | None] = self._loader(self._scoped(events.find_many))
        self.progress: DataLoader[UUID, Progress | None] = self._loader(events.progress)
        self.endpoints: DataLoader[UUID, Endpoint | None] = self._loader(self._scoped(endpoints.find_many))
        self.credentials: DataLoader[UUID, credentials.Shown | None] = self._loader(self._scoped(credentials.shown))
        self.schemas: DataLoader[UUID, bytes | None] = self._loader(self._scoped(type_revisions.schemas))
        self.revisions: DataLoader[UUID, list[Revision] | None] = self._loader(self._scoped(type_revisions.of_types))
        self.deliveries: DataLoader[UUID, Delivery | None] = self._loader(self._scoped(deliveries.find_many))
        self.replays: DataLoader[UUID, Delivery | None] = self._loader(self._scoped(deliveries.replays_of))
        self.attempts: DataLoader[UUID, list[Attempt] | None] = self._loader(self._scoped(attempts.of_deliveries))
        self.event_attempts: DataLoader[UUID, list[Attempt] | None] = self._loader(self._scoped(attempts.of_events))
        self.secrets: DataLoader[UUID, secrets.Shown | None] = self._loader(secrets.shown)
        self.standings: DataLoader[UUID, Standing | None] = self._loader(gates.standings)
        self.secret_hints: DataLoader[UUID, str | None] = self._loader(tenants.secret_hints)
        self.failures: DataLoader[Epoch, int] = DataLoader(self._failures)
        self._deliveries_of_events: dict[int, DataLoader[UUID, list[Delivery] | None]] = {}
        self._stats: dict[int, DataLoader[UUID, EndpointStats | None]] = {}
        self._percentiles: dict[int, DataLoader[UUID, Percentiles | None]] = {}

    def deliveries_of_events(self, first: int) -> DataLoader[UUID, list[Delivery] | None]:
        """The newest `first` deliveries of each event."""
        if first not in self._deliveries_of_events:
            self._deliveries_of_events[first] = self._loader(partial(deliveries.of_events, first=first))
        return self._deliveries_of_events[first]

    def stats(self, hours: int) -> DataLoader[UUID, EndpointStats | None]:
        """The figures of endpoints over the last `hours`."""
        if hours not in self._stats:
            self._stats[hours] = self._loader(partial(stats.of_endpoints, hours=hours))
        return self._stats[hours]

    def percentiles(self, hours: int) -> DataLoader[UUID, Percentiles | None]:
        """The latencies of endpoints over the last `hours`."""
        if hours not in self._percentiles:
            self._percentiles[hours] = self._loader(partial(stats.percentiles_of_endpoints, hours=hours))
        return self._percentiles[hours]

    async def _failures(self, epochs: list[Epoch]) -> list[int]:
        """What was counted for circuits; without Redis, nothing."""
        try:
            return await self._counters.read(epochs)
        except UNREACHABLE:
            return [0] * len(epochs)

    def _scoped(self, fetch: Callable[[Conn, UUID, Iterable[UUID]], Awaitable[dict[UUID, V]]]) -> Fetch[V]:
        async def of_tenant(conn: Conn, ids: list[UUID]) -> dict[UUID, V]:
            return await fetch(conn, self._tenant_id, ids)

        return of_tenant

    def _loader(self, fetch: Fetch[V]) -> DataLoader[UUID, V | None]:
        async def load(ids: list[UUID]) -> list[V | None]:
            async with self._db.connection() as conn:
                found = await fetch(conn, ids)
            return [found.get(id) for id in ids]

        return DataLoader(load)
