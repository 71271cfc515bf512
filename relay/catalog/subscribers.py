"""The active endpoints of clients as fan-out needs them, with the version of the configuration they are from."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from relay.catalog.filters import Filter, stored_filter
from relay.db import Conn

#: So many filters are read, 0.1 ms for a new one, before others get their turn.
_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class Subscriber:
    """An endpoint as fan-out needs it; `partition_key` is the JSONPath of a FIFO endpoint's lanes."""

    id: UUID
    patterns: list[str]
    fifo: bool
    partition_key: str | None
    filter: Filter | None = None

    @property
    def reads_payload(self) -> bool:
        """Tell whether fan-out must look into an event to know what this endpoint gets."""
        return self.filter is not None or self.partition_key is not None


async def subscriptions(conn: Conn, tenant_ids: Iterable[UUID]) -> dict[UUID, tuple[int, list[Subscriber]]]:
    """Return each tenant's `config_version` and, of the same moment, its active endpoints."""
    rows = await conn.execute(
        """SELECT t.id, t.config_version, e.id, e.event_types, e.fifo, e.fifo_partition_key, e.filter::text FROM tenants t
           LEFT JOIN endpoints e ON e.tenant_id = t.id AND e.deleted_at IS NULL AND e.kind = 'subscribed'
                AND e.status = 'active'
           WHERE t.id = ANY(%s::uuid[]) ORDER BY e.id""",
        (list(tenant_ids),),
    )
    found: dict[UUID, tuple[int, list[Subscriber]]] = {}
    async for tenant_id, version, id, patterns, fifo, partition_key, filter in rows:
        entries = found.setdefault(tenant_id, (version, []))[1]
        if id is not None:
            compiled = None if filter is None else stored_filter(filter)
            entries.append(Subscriber(id, patterns, fifo, partition_key, compiled))
            if compiled and len(entries) % _AT_ONCE == 0:
                await asyncio.sleep(0)
    return found
