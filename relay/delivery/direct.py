"""Sending to one endpoint without a fan-out: what `testEndpoint` asks for."""

from __future__ import annotations

from uuid import UUID

from relay.catalog import endpoints
from relay.catalog.subscriptions import check_name
from relay.db import Conn
from relay.delivery.live import Dispatched
from relay.ids import Uuid7, fence

TEST_TYPE = "relay.test"
_TEST_PAYLOAD = b'{"message":"This is a test from Relay."}'


async def test(conn: Conn, tenant_id: UUID, endpoint_id: UUID, *, event_type: str | None, ids: Uuid7) -> Dispatched:
    """Store a test event and its delivery, already dispatched; the caller commits, then sends the message.

    Goes out whatever holds the endpoint back. NotFound without such an endpoint, Invalid for what is no event type.
    """
    if event_type is not None:
        check_name(event_type, field="eventType")
    await endpoints.get(conn, tenant_id, endpoint_id)
    event_id, delivery_id, number = ids(), ids(), fence()
    await conn.execute(
        """WITH e AS (
            INSERT INTO events (id, tenant_id, type, payload, content_type, priority, endpoint_id)
            VALUES (%(event)s, %(tenant)s, %(type)s, %(payload)s, 'application/json', 1, %(endpoint)s)),
        f AS (
            INSERT INTO fanouts (event_id, tenant_id, matched, config_version)
            SELECT %(event)s, id, 1, config_version FROM tenants WHERE id = %(tenant)s)
        INSERT INTO live (id, tenant_id, event_id, endpoint_id, tier, lane, fence, sent_at)
        VALUES (%(delivery)s, %(tenant)s, %(event)s, %(endpoint)s, 0, 'test', %(fence)s, now())""",
        {
            "event": event_id,
            "tenant": tenant_id,
            "type": TEST_TYPE if event_type is None else event_type,
            "payload": _TEST_PAYLOAD,
            "endpoint": endpoint_id,
            "delivery": delivery_id,
            "fence": number,
        },
    )
    return Dispatched(delivery_id, number, tier=0)
