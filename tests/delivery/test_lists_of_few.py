"""A client with few deliveries beside one with very many: what its lists read is what it has."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import UUID

import pytest

from bench.filling import Stored, fill
from relay.db import Conn, transaction
from relay.delivery import deliveries
from relay.delivery.deliveries import DeliveryFilter, DeliveryStatus
from relay.intake import events
from relay.intake.events import EventFilter
from tests.rows import make_world

MANY = 20_000
#: A table as small as this, as that of the dead letters is, may well be read whole.
FEW = 250
#: psycopg prepares a statement at its fifth time, and five times later Postgres may keep one plan for all clients.
OFTEN = 12
_FETCHED = """SELECT coalesce(sum(idx_tup_fetch + seq_tup_read), 0)::int8 FROM pg_stat_xact_user_tables
              WHERE relname ~ '^(events|history|live|dead_letters)'"""

Reading = Callable[[Conn, UUID, UUID], Awaitable[object]]
READINGS: dict[str, Reading] = {
    "events": lambda conn, tenant, _: events.list_(conn, tenant, EventFilter(), first=50),
    "events, counted": lambda conn, tenant, _: events.count(conn, tenant, EventFilter()),
    "deliveries": lambda conn, tenant, _: deliveries.list_(conn, tenant, DeliveryFilter(), first=50),
    "deliveries, counted": lambda conn, tenant, _: deliveries.count(conn, tenant, DeliveryFilter()),
    "deliveries of an endpoint": lambda conn, tenant, endpoint: deliveries.list_(
        conn, tenant, DeliveryFilter(endpoint_id=endpoint), first=50
    ),
    "deliveries of a status": lambda conn, tenant, _: deliveries.list_(
        conn, tenant, DeliveryFilter(status=DeliveryStatus.DELIVERED), first=50
    ),
    "dead letters": lambda conn, tenant, _: deliveries.list_(conn, tenant, DeliveryFilter(settled=False), first=50),
}


@pytest.fixture
async def large_and_small(conn: Conn, database_url: str) -> list[tuple[UUID, UUID]]:
    large, small = await make_world(conn, "large"), await make_world(conn, "small")
    for world, count in ((large, MANY), (small, 10)):
        fill(
            database_url, Stored([str(world.endpoint_id)], count, timedelta(days=2), first=world.tenant_id.int % 9_999)
        )
    return [(world.tenant_id, world.endpoint_id) for world in (large, small)]


async def test_what_a_client_with_few_deliveries_reads_is_its_own(
    conn: Conn, large_and_small: list[tuple[UUID, UUID]]
) -> None:
    large, small = large_and_small
    fetched: dict[str, int] = {}
    for name, read in READINGS.items():
        for _ in range(OFTEN):
            await read(conn, *large)
        async with transaction(conn):
            before = await (await conn.execute(_FETCHED)).fetchall()
            await read(conn, *small)
            after = await (await conn.execute(_FETCHED)).fetchall()
        fetched[name] = after[0][0] - before[0][0]
    assert {name: n for name, n in fetched.items() if n > FEW} == {}
