"""Accepting events: one statement stores a batch, its idempotency keys and its outbox rows; after its commit they are safe."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
from psycopg.types.json import Jsonb

from relay.db import Conn
from relay.errors import Conflict

KEY_LIFETIME = timedelta(hours=24)
_encode = msgspec.json.Encoder(order="deterministic").encode


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event as a producer sent it, checked and not stored yet."""

    tenant_id: UUID
    payload: bytes
    type: str | None
    priority: int = 5
    headers: dict[str, str] | None = None
    subject: str | None = None
    content_type: str = "application/json"
    idempotency_key: str | None = None
    deliver_at: datetime | None = None
    delay_s: int | None = None
    endpoint_id: UUID | None = None
    max_attempts: int | None = None

    def request_hash(self) -> bytes:
        """SHA-256 of all that makes this the same request; two events with one key must agree on it."""
        digest = hashlib.sha256(_encode(_identity(self)))
        digest.update(b"\0")
        digest.update(self.payload)
        return digest.digest()


def _identity(event: NewEvent) -> tuple[object, ...]:
    return (
        event.tenant_id, event.type, event.priority, event.headers, event.subject, event.content_type,
        event.deliver_at, event.delay_s, event.endpoint_id, event.max_attempts,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Accepted:
    """The receipt: this event is stored (`duplicate`: it was before) and will reach a final state."""

    id: UUID
    created_at: datetime
    scheduled_at: datetime | None = None
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class Candidate:
    """An event with the id it gets if it is accepted."""

    id: UUID
    event: NewEvent
    hash: bytes | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """What one accept statement did: receipts by candidate id, and the outbox shards that got work."""

    receipts: dict[UUID, Accepted]
    shards: frozenset[int]


async def store(conn: Conn, candidates: Sequence[Candidate], *, lock_timeout_ms: int) -> Stored:
    """Insert the candidates whose keys are free and return their receipts; a key that is taken leaves its candidate out.

    One synchronous commit; LockNotAvailable when a key stays locked for longer than `lock_timeout_ms`. Candidates come
    with ascending ids; none shares a key with another.
    """
    rows = await conn.execute(
        """WITH s AS MATERIALIZED (SELECT set_config('lock_timeout', %s, true)),
        r AS MATERIALIZED (
            SELECT r.* FROM s, unnest(
                %b::uuid[], %b::uuid[], %b::text[], %b::bytea[], %b::text[], %b::jsonb[], %b::text[], %b::int2[], %b::text[],
                %b::bytea[], %b::uuid[], %b::int2[], %b::timestamptz[], %b::int[]) AS r (
                id, tenant_id, type, payload, content_type, headers, subject, priority, key,
                    hash, endpoint_id, max_attempts, deliver_at, delay_s)),
        k AS (
            INSERT INTO idempotency_keys AS i (tenant_id, key, event_id, request_hash, expires_at)
            SELECT tenant_id, key, id, hash, now() + %s FROM r WHERE key IS NOT NULL ORDER BY tenant_id, key
            ON CONFLICT (tenant_id, key) DO UPDATE
                SET event_id = excluded.event_id, request_hash = excluded.request_hash, expires_at = excluded.expires_at
                WHERE i.expires_at < now()
            RETURNING event_id),
        e AS (
            INSERT INTO events (id, tenant_id, type, payload, content_type, headers, subject, priority, idempotency_key,
                                endpoint_id, max_attempts, scheduled_at)
            SELECT id, tenant_id, type, payload, content_type, headers, subject, priority, key, endpoint_id, max_attempts,
                   coalesce(deliver_at, now() + make_interval(secs => delay_s))
            FROM r WHERE key IS NULL OR id IN (SELECT event_id FROM k)
            RETURNING id, tenant_id, scheduled_at, created_at),
        later AS (INSERT INTO scheduled (event_id, tenant_id, due_at)
            SELECT id, tenant_id, scheduled_at FROM e WHERE scheduled_at > now()),
        o AS (INSERT INTO outbox (shard, tenant_id, event_id)
            SELECT get_byte(uuid_send(tenant_id), 15) & 15, tenant_id, id FROM e
            WHERE scheduled_at IS NULL OR scheduled_at <= now() ORDER BY id
            RETURNING event_id, shard)
        SELECT e.id, e.created_at, e.scheduled_at, o.shard FROM e LEFT JOIN o ON o.event_id = e.id""",
        (f"{lock_timeout_ms}ms", *_columns(candidates), KEY_LIFETIME),
    )
    stored = await rows.fetchall()
    shards = frozenset(row[3] for row in stored if row[3] is not None)
    return Stored({row[0]: Accepted(*row[:3]) for row in stored}, shards)


def _columns(candidates: Sequence[Candidate]) -> tuple[list[object], ...]:
    events = [candidate.event for candidate in candidates]
    return (
        [candidate.id for candidate in candidates],
        [event.tenant_id for event in events],
        [event.type for event in events],
        [event.payload for event in events],
        [event.content_type for event in events],
        [Jsonb(event.headers) if event.headers is not None else None for event in events],
        [event.subject for event in events],
        [event.priority for event in events],
        [event.idempotency_key for event in events],
        [candidate.hash for candidate in candidates],
        [event.endpoint_id for event in events],
        [event.max_attempts for event in events],
        [event.deliver_at for event in events],
        [event.delay_s for event in events],
    )


async def originals(conn: Conn, losers: Sequence[Candidate]) -> dict[UUID, Accepted | Conflict]:
    """For candidates whose key was taken: the first event's receipt, or Conflict when that was another request.

    A statement of its own after `store`, because the winner may have committed while that one ran. A candidate that is
    missing from the answer lost to a key that is gone again; it may be stored anew.
    """
    rows = await conn.execute(
        """SELECT u.id, i.event_id, i.request_hash, e.created_at, e.scheduled_at
           FROM unnest(%b::uuid[], %b::uuid[], %b::text[]) AS u (
                id, tenant_id, key)
           JOIN idempotency_keys i ON i.tenant_id = u.tenant_id AND i.key = u.key
           LEFT JOIN events e ON e.id = i.event_id
           WHERE i.expires_at >= now()""",
        (
            [loser.id for loser in losers],
            [loser.event.tenant_id for loser in losers],
            [loser.event.idempotency_key for loser in losers],
        ),
    )
    hashes = {loser.id: loser.hash for loser in losers}
    found: dict[UUID, Accepted | Conflict] = {}
    async for id, event_id, request_hash, created_at, scheduled_at in rows:
        if bytes(request_hash) == hashes[id]:
            found[id] = Accepted(event_id, created_at, scheduled_at, duplicate=True)
        else:
            found[id] = key_conflict()
    return found


async def already_stored(conn: Conn, ids: Sequence[UUID]) -> dict[UUID, Accepted]:
    """Receipts of those ids that are stored: after a lost connection nobody knows whether the commit was carried out."""
    rows = await conn.execute(
        "SELECT id, created_at, scheduled_at FROM events WHERE id = ANY(%b::uuid[])", (list(ids),)
    )
    return {row[0]: Accepted(row[0], row[1], row[2]) async for row in rows}


async def forget_expired_keys(conn: Conn, *, limit: int = 5000) -> int:
    """Delete idempotency keys that ended, in key order; return how many. Safe beside intake, which takes them over itself."""
    done = await conn.execute(
        """DELETE FROM idempotency_keys i USING (
               SELECT tenant_id, key FROM idempotency_keys WHERE expires_at < now()
               ORDER BY tenant_id, key LIMIT %s FOR UPDATE SKIP LOCKED) x
           WHERE i.tenant_id = x.tenant_id AND i.key = x.key""",
        (limit,),
    )
    return done.rowcount


def key_conflict() -> Conflict:
    """The refusal for a key that came with another request."""
    return Conflict("This idempotency key was used for a different request.", field="idempotencyKey")
