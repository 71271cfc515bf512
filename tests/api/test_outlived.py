"""Deliveries that outlive their event: it was of an earlier day, which is retired or archived first."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg

from relay import partitions
from relay.db import Conn
from relay.ids import floor_at
from relay.settings import Settings
from tests.api.conftest import Api
from tests.rows import make_world

OLD = datetime.now(UTC) - timedelta(days=40)
QUERY = """query($id: ID!) {
  event(id: $id) { id }
  deliveries { nodes { id priority maxAttempts event { id eventType payload status priority createdAt attempts } } }
  endpoints { nodes { deliveries { nodes { event { deliveries { id } } } } } }
}"""


async def test_a_delivery_still_says_of_which_event_it_was(api: Api, conn: Conn, settings: Settings) -> None:
    await api.data("{ __typename }")
    ((client,),) = await (await conn.execute("SELECT name FROM tenants")).fetchall()
    world = await make_world(conn, client)
    with psycopg.connect(settings.database_url, autocommit=True) as sync:
        partitions.ensure(sync, now=OLD)
        event_id = await world.event(ago=timedelta(days=40))
        delivery_id = str(await world.finished(event_id))
        partitions.retire(sync, keep_days=30)
    found = await api.data(QUERY, id=str(event_id))
    assert found["event"] is None
    accepted = datetime.fromtimestamp((event_id.int >> 80) / 1000, UTC)
    assert floor_at(accepted.timestamp()) == event_id
    told = {
        "id": str(event_id),
        "eventType": None,
        "payload": None,
        "status": "DELIVERED",
        "priority": 5,
        "attempts": 1,
    }
    (delivery,) = found["deliveries"]["nodes"]
    assert datetime.fromisoformat(delivery["event"].pop("createdAt")) == accepted
    assert delivery == {"id": delivery_id, "priority": 5, "maxAttempts": delivery["maxAttempts"], "event": told}
    (endpoint,) = found["endpoints"]["nodes"]
    assert endpoint["deliveries"]["nodes"] == [{"event": {"deliveries": [{"id": delivery_id}]}}]
