"""Rows as intake, fan-out and workers leave them, put there directly: for tests of what reads them."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from relay.catalog import endpoints
from relay.catalog.endpoints import EndpointSpec
from relay.catalog.secrets import Vault
from relay.db import Conn
from relay.delivery.addresses import Guard
from relay.ids import Uuid7, floor_at
from relay.tenancy import tenants

VAULT = Vault("a signing key that only tests use")
GUARD = Guard([ipaddress.ip_network("127.0.0.0/8")])
new_id = Uuid7()


@dataclass
class World:
    """One client with an endpoint for everything, and what happens to it."""

    conn: Conn
    tenant_id: UUID
    endpoint_id: UUID
    ids: Uuid7 = field(default_factory=Uuid7)

    async def endpoint(self, *patterns: str) -> UUID:
        """Make one more endpoint."""
        spec = EndpointSpec(url="http://127.0.0.1:9000/", event_types=list(patterns) or ["*"])
        await endpoints.create(self.conn, self.tenant_id, spec, id=self.ids(), vault=VAULT, guard=GUARD)
        return (await endpoints.list_(self.conn, self.tenant_id, first=1)).items[0].id

    async def event(
        self, type: str | None = "order.created", *, ago: timedelta = timedelta(0), **columns: object
    ) -> UUID:
        """Insert an event that was accepted `ago`, without any outbox row."""
        at = datetime.now(UTC) - ago
        id = self.ids() if not ago else floor_at(at.timestamp())
        values = {"idempotency_key": None, "subject": None, "endpoint_id": None, **columns}
        await self.conn.execute(
            """INSERT INTO events (id, tenant_id, type, payload, content_type, priority, created_at,
                   idempotency_key, subject, endpoint_id)
               VALUES (%(id)s, %(tenant)s, %(type)s, '{"a": 1e2}', 'application/json', 5, %(at)s, %(idempotency_key)s,
                   %(subject)s, %(endpoint_id)s)""",
            {**values, "id": id, "tenant": self.tenant_id, "type": type, "at": at},
        )
        return id

    async def fanned_out(self, event_id: UUID, *, matched: int) -> None:
        """Insert the proof of a fan-out."""
        await self.conn.execute(
            "INSERT INTO fanouts (event_id, tenant_id, matched, config_version) VALUES (%s, %s, %s, 1)",
            (event_id, self.tenant_id, matched),
        )

    async def waiting(
        self, event_id: UUID, *, endpoint_id: UUID | None = None, due_s: float = 0, attempts: int = 0, tier: int = 1
    ) -> UUID:
        """Insert a delivery that waits until `due_s` seconds from now."""
        id = self.ids()
        await self.conn.execute(
            """INSERT INTO live (id, tenant_id, event_id, endpoint_id, tier, due_at, attempts)
               VALUES (%s, %s, %s, %s, %s, now() + make_interval(secs => %s), %s)""",
            (id, self.tenant_id, event_id, endpoint_id or self.endpoint_id, tier, due_s, attempts),
        )
        return id

    async def dispatched(self, event_id: UUID, *, owner: int | None = None, attempts: int = 0) -> UUID:
        """Insert a delivery that was handed out, and is being sent if it has an owner."""
        id = self.ids()
        await self.conn.execute(
            """INSERT INTO live (id, tenant_id, event_id, endpoint_id, tier, fence, sent_at, owner, attempts)
               VALUES (%s, %s, %s, %s, 1, 7, now(), %s, %s)""",
            (id, self.tenant_id, event_id, self.endpoint_id, owner, attempts),
        )
        return id

    async def finished(
        self,
        event_id: UUID,
        state: str = "delivered",
        *,
        endpoint_id: UUID | None = None,
        attempts: int = 1,
        ago: timedelta = timedelta(0),
    ) -> UUID:
        """Insert a delivery that became final `ago`; a dead one is settled by nobody."""
        id = self.ids()
        owner = endpoint_id or self.endpoint_id
        reason = {"delivered": "ok", "dead": "attempts_exhausted", "cancelled": "cancelled_by_user"}[state]
        await self.conn.execute(
            """INSERT INTO history (id, tenant_id, event_id, endpoint_id, state, tier, attempts, reason, created_at,
                   finished_at)
               VALUES (%s, %s, %s, %s, %s, 1, %s, %s, now() - %s, now() - %s)""",
            (id, self.tenant_id, event_id, owner, state, attempts, reason, ago, ago),
        )
        if state == "dead":
            await self.conn.execute(
                "INSERT INTO dead_letters (id, tenant_id, endpoint_id, event_id, reason) VALUES (%s, %s, %s, %s, %s)",
                (id, self.tenant_id, owner, event_id, reason),
            )
        return id

    async def attempt(
        self, delivery_id: UUID, n: int = 1, *, status: int | None = 200, total_ms: float = 10, ago_s: float = 0
    ) -> None:
        """Insert an attempt."""
        await self.conn.execute(
            """INSERT INTO attempts (delivery_id, n, at, tenant_id, endpoint_id, status, reason, request_url, body,
                   total_ms)
               VALUES (%s, %s, now() - make_interval(secs => %s), %s, %s, %s, %s, 'http://x/', 'hi', %s)""",
            (
                delivery_id,
                n,
                ago_s,
                self.tenant_id,
                self.endpoint_id,
                status,
                "ok" if status == 200 else "response_timeout" if status is None else "http_server_error",
                total_ms,
            ),
        )

    async def move_to_history(self, delivery_id: UUID, state: str) -> None:
        """End a delivery of `live` as a worker does."""
        await self.conn.execute(
            """WITH f AS (
                   DELETE FROM live WHERE id = %s
                   RETURNING id, tenant_id, event_id, endpoint_id, tier, attempts, replay_of, created_at)
               INSERT INTO history (id, tenant_id, event_id, endpoint_id, state, tier, attempts, reason, replay_of, created_at)
               SELECT id, tenant_id, event_id, endpoint_id, %s, tier, attempts + 1, 'ok', replay_of, created_at FROM f""",
            (delivery_id, state),
        )


async def make_world(conn: Conn, name: str = "acme") -> World:
    """Make a client of this name with one endpoint for everything."""
    tenant, _ = await tenants.ensure(conn, name, vault=VAULT)
    world = World(conn, tenant.id, tenant.id)
    world.endpoint_id = await world.endpoint("*")
    return world


async def insert_waiting(conn: Conn, tenant_id: UUID, endpoint_id: UUID, count: int, *, lane: str = "") -> list[UUID]:
    """Insert that many due deliveries of one event into a lane, which is rung; return their ids in order (FIFO: of seq)."""
    ids = [new_id() for _ in range(count)]
    event = new_id()
    await conn.execute(
        """INSERT INTO events (id, tenant_id, type, payload, content_type, priority)
           VALUES (%s, %s, 'order.created', '{}', 'application/json', 5)""",
        (event, tenant_id),
    )
    await conn.execute(
        "INSERT INTO fanouts (event_id, tenant_id, matched, config_version) VALUES (%s, %s, %s, 0)",
        (event, tenant_id, count),
    )
    await conn.execute(
        """WITH l AS (
               INSERT INTO lanes AS l (endpoint_id, key, tenant_id, tier, ready_at, next_seq)
               VALUES (%(endpoint)s, %(lane)s, %(tenant)s, 1, now(), 1 + %(count)s)
               ON CONFLICT (endpoint_id, key) DO UPDATE SET ready_at = least(l.ready_at, now()),
                   next_seq = l.next_seq + %(count)s
               RETURNING next_seq - %(count)s AS first)
           INSERT INTO live (id, tenant_id, event_id, endpoint_id, tier, lane, seq, due_at)
           SELECT u.id, %(tenant)s, %(event)s, %(endpoint)s, 1, %(lane)s,
                  CASE WHEN starts_with(%(lane)s, 'fifo:') THEN l.first + u.n - 1 END, now()
           FROM l, unnest(%(ids)s::uuid[]) WITH ORDINALITY AS u (id, n)""",
        {"endpoint": endpoint_id, "tenant": tenant_id, "event": event, "lane": lane, "count": count, "ids": ids},
    )
    return ids
