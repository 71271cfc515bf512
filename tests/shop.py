"""A shop that accepts events, as one web process does it: for tests of what becomes of them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

from relay.catalog import endpoints
from relay.catalog.endpoints import EndpointSpec
from relay.delivery import pausing
from relay.errors import RelayError
from relay.ids import Uuid7
from relay.intake.accept import Accepted, NewEvent
from relay.intake.collector import Collector
from relay.runtime import Web
from relay.settings import Settings
from relay.tenancy import tenants


@dataclass
class Shop:
    """A web process and its one client."""

    web: Web
    tenant_id: UUID

    async def endpoint(self, url: str, **fields: object) -> UUID:
        """Subscribe a URL to everything; `fields` are those of createEndpoint."""
        spec = EndpointSpec.model_validate({"url": url, "event_types": ["*"], **fields})
        id = self.web.ids()
        async with self.web.db.transaction() as conn:
            await endpoints.create(conn, self.tenant_id, spec, id=id, vault=self.web.vault, guard=self.web.guard)
        return id

    async def neighbour(self) -> Shop:
        """Another client of the same web process."""
        async with self.web.db.transaction() as conn:
            tenant, _ = await tenants.ensure(conn, "neighbour", vault=self.web.vault)
        return Shop(self.web, tenant.id)

    def event(self, payload: bytes = b"{}", type: str | None = "order.paid", **fields: object) -> NewEvent:
        """One more event of the client."""
        return NewEvent(self.tenant_id, payload, type, **fields)  # pyright: ignore[reportArgumentType]

    async def accept(self, *events: NewEvent) -> list[Accepted | RelayError]:
        """Accept them as one request."""
        return await self.web.collector.accept(events)

    async def send(self, count: int, *, type: str = "order.paid", at_once: int = 100) -> list[str]:
        """Accept that many events, in requests of `at_once`; return their ids in order."""
        ids: list[str] = []
        for start in range(0, count, at_once):
            events = [self.event(b'{"n":%d}' % n, type) for n in range(start, min(start + at_once, count))]
            ids += [str(receipt.id) for receipt in accepted(await self.accept(*events))]
        return ids

    async def pause(self, endpoint_id: UUID) -> int:
        """Pause an endpoint as a request does, in two transactions; return how many deliveries were taken back."""
        async with self.web.db.transaction() as conn:
            await pausing.pause(conn, self.tenant_id, endpoint_id)
        async with self.web.db.transaction() as conn:
            return await pausing.take_back(conn, endpoint_id)

    async def resume(self, endpoint_id: UUID, *, rate_per_sec: int | None = None) -> None:
        """Resume an endpoint as a request does, in two transactions, and wake the clock."""
        async with self.web.db.transaction() as conn:
            await pausing.resume(conn, self.tenant_id, endpoint_id, rate_per_sec=rate_per_sec)
        async with self.web.db.transaction() as conn:
            await pausing.ring_lanes(conn, endpoint_id)
        await self.web.hint(self.web.queue.wake_clock())


def accepted(receipts: list[Accepted | RelayError]) -> list[Accepted]:
    """The receipts, all of which must be good."""
    good = [receipt for receipt in receipts if isinstance(receipt, Accepted)]
    assert len(good) == len(receipts), [receipt for receipt in receipts if not isinstance(receipt, Accepted)]
    return good


@asynccontextmanager
async def open_shop(settings: Settings, *, clock_off_s: float = 0.0) -> AsyncIterator[Shop]:
    """Run a web process whose own clock is that many seconds off."""
    web = Web(settings)
    if clock_off_s:
        web.ids = Uuid7(lambda: time.time() + clock_off_s)
        web.collector = Collector(web.db, ids=web.ids, ring=web.doorbell.ring)
    await web.open()
    try:
        async with web.db.transaction() as conn:
            tenant, _ = await tenants.ensure(conn, "shop", vault=web.vault)
        yield Shop(web, tenant.id)
    finally:
        await web.close()
