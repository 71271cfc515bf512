"""Recording outcomes: one fenced statement a batch writes the attempts and moves each delivery on.

An outcome whose fence is gone changes nothing: somebody else has the delivery. Attempts come from what the fenced
statement returned, never from the input, so a doubled outcome leaves one attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from psycopg.types.json import Jsonb

from relay.db import Conn
from relay.delivery.live import Claimed
from relay.delivery.outcomes import Cancelled, Dead, Delivered, Outcome, Reason, Retry


@dataclass(frozen=True, slots=True)
class Attempt:
    """One HTTP request, and what came back. Times in ms; `status` None when no answer came."""

    reason: Reason
    url: str
    total_ms: float
    status: int | None = None
    error: str | None = None
    request_headers: dict[str, str] | None = None
    response_headers: dict[str, str] | None = None
    body: bytes | None = None
    body_truncated: bool = False
    peer_ip: str | None = None
    dns_ms: float | None = None
    connect_ms: float | None = None
    tls_ms: float | None = None
    first_byte_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of an owned delivery; `attempt` is None when none was made. `done` is called after the commit.

    `retry_after_s`: how long a 429 or 503 asks to be left alone. `circuit_threshold`: how many failures in a row open the
    endpoint's circuit; None when nothing was sent. `event_type`: empty when the event has none, None when it is not at hand.
    """

    delivery: Claimed
    outcome: Outcome
    attempt: Attempt | None
    done: Callable[[], None] = lambda: None
    retry_after_s: float | None = None
    circuit_threshold: int | None = None
    event_type: str | None = None


async def record(conn: Conn, batch: Sequence[Recorded]) -> list[UUID]:
    """Write a batch of outcomes, unique by (id, fence), in id order; return the ids of those that are dead.

    Commits asynchronously (a crash of Postgres may forget it) unless something died, was cancelled or is of a FIFO lane.
    """
    careless = all(one.delivery.seq is None and isinstance(one.outcome, Delivered | Retry) for one in batch)
    rows = await conn.execute(
        """WITH s AS MATERIALIZED (SELECT set_config('synchronous_commit', %s, true)),
        u AS MATERIALIZED (SELECT u.* FROM s, unnest(%b::uuid[], %b::int8[], %b::int8[], %b::text[], %b::float8[],
                %b::text[], %b::text[], %b::text[], %b::int[], %b::text[], %b::jsonb[], %b::jsonb[], %b::bytea[], %b::bool[],
                %b::text[], %b::float4[], %b::float4[], %b::float4[], %b::float4[], %b::float4[], %b::text[]) AS u (id,
                fence, owner, state, delay_s, reason, attempt_reason, url, status, error, request_headers, response_headers,
                body, body_truncated, peer_ip, dns_ms, connect_ms, tls_ms, first_byte_ms, total_ms, event_type)),
        f AS (DELETE FROM live l USING u WHERE u.state <> 'waiting' AND l.id = u.id AND l.fence = u.fence
            RETURNING l.*, u.state, u.reason AS why, u.event_type, l.attempts + (u.attempt_reason IS NOT NULL)::int AS n),
        w AS (UPDATE live l SET fence = NULL, owner = NULL, sent_at = NULL, reason = u.reason, due_at =
                now() + make_interval(secs => u.delay_s), attempts = l.attempts + (u.attempt_reason IS NOT NULL)::int
            FROM u WHERE u.state = 'waiting' AND l.id = u.id AND l.fence = u.fence AND coalesce(l.owner, u.owner) = u.owner
            RETURNING l.id, u.fence, l.tenant_id, l.endpoint_id, l.lane, l.tier, l.due_at, l.attempts AS n),
        a AS (INSERT INTO attempts (delivery_id, n, tenant_id, endpoint_id, reason, request_url, status, error,
                request_headers, response_headers, body, body_truncated, peer_ip, dns_ms, connect_ms, tls_ms, first_byte_ms,
                total_ms, event_type)
            SELECT d.id, n, tenant_id, endpoint_id, attempt_reason, url, status, error, request_headers, response_headers,
                body, body_truncated, peer_ip, dns_ms, connect_ms, tls_ms, first_byte_ms, total_ms, event_type
            FROM (SELECT id, fence, n, tenant_id, endpoint_id FROM f
                UNION ALL SELECT id, fence, n, tenant_id, endpoint_id FROM w) d
            JOIN u ON u.id = d.id AND u.fence = d.fence WHERE attempt_reason IS NOT NULL),
        h AS (INSERT INTO history (id, tenant_id, event_id, endpoint_id, state, tier, lane, seq, attempts, reason, replay_of,
                first, job_id, created_at, event_type)
            SELECT id, tenant_id, event_id, endpoint_id, state, tier, lane, seq, n, why, replay_of, first, job_id,
                created_at, event_type FROM f),
        dead AS (INSERT INTO dead_letters (id, tenant_id, endpoint_id, event_id, reason)
            SELECT id, tenant_id, endpoint_id, event_id, why FROM f WHERE state = 'dead'),
        ring AS (INSERT INTO lanes (endpoint_id, key, tenant_id, tier, ready_at)
            SELECT endpoint_id, lane, tenant_id, tier, min(due_at) FROM w GROUP BY 1, 2, 3, 4 ORDER BY endpoint_id, lane
            ON CONFLICT (endpoint_id, key) DO UPDATE SET ready_at = least(lanes.ready_at, excluded.ready_at))
        SELECT id FROM f WHERE state = 'dead'""",
        ("off" if careless else "on", *_columns(batch)),
    )
    return [row[0] async for row in rows]


async def move_heads(conn: Conn, batch: Sequence[Recorded], dead: Sequence[UUID]) -> None:
    """Ring the FIFO lanes of recorded deliveries, whose heads are others now, or let a dead head block its lane.

    Belongs into the transaction of their record. An answer to a head that releaseFIFOLock took from its holder is counted
    as an attempt, once, and changes nothing else.
    """
    await conn.execute(
        """WITH u AS MATERIALIZED (
            SELECT * FROM unnest(%b::uuid[], %b::int8[], %b::uuid[], %b::text[], %b::bool[], %b::text[], %b::text[], %b::int[],
                %b::float4[]) AS u (id, fence, endpoint_id, key, final, reason, url, status, total_ms)),
        late AS (
            UPDATE live l SET attempts = l.attempts + 1, released_fence = NULL
            FROM u WHERE l.id = u.id AND l.released_fence = u.fence AND u.reason IS NOT NULL
            RETURNING l.id, l.attempts, l.tenant_id, l.endpoint_id, u.reason, u.url, u.status, u.total_ms),
        counted AS (
            INSERT INTO attempts (delivery_id, n, tenant_id, endpoint_id, reason, request_url, status, total_ms)
            SELECT id, attempts, tenant_id, endpoint_id, reason, url, status, total_ms FROM late)
        UPDATE lanes l SET ready_at = least(l.ready_at, now()), blocked_by = coalesce(x.blocks, l.blocked_by)
        FROM (SELECT DISTINCT ON (endpoint_id, key) endpoint_id, key,
                  CASE WHEN id = ANY(%b::uuid[]) AND blocks_lane(endpoint_id) THEN id END AS blocks
              FROM u WHERE final ORDER BY endpoint_id, key, blocks) x
        WHERE l.endpoint_id = x.endpoint_id AND l.key = x.key""",
        (*_head_columns(batch), list(dead)),
    )


def _head_columns(batch: Sequence[Recorded]) -> tuple[list[object], ...]:
    return (
        [one.delivery.id for one in batch],
        [one.delivery.fence for one in batch],
        [one.delivery.endpoint_id for one in batch],
        [one.delivery.lane for one in batch],
        [not isinstance(one.outcome, Retry) for one in batch],
        [one.attempt.reason.value if one.attempt else None for one in batch],
        [one.attempt.url if one.attempt else None for one in batch],
        [one.attempt.status if one.attempt else None for one in batch],
        [one.attempt.total_ms if one.attempt else None for one in batch],
    )


def _columns(batch: Sequence[Recorded]) -> tuple[list[object], ...]:
    attempts = [one.attempt for one in batch]
    return (
        [one.delivery.id for one in batch],
        [one.delivery.fence for one in batch],
        [one.delivery.owner for one in batch],
        [state_of(one.outcome) for one in batch],
        [one.outcome.delay_s if isinstance(one.outcome, Retry) else None for one in batch],
        [one.outcome.reason.value for one in batch],
        [a.reason.value if a else None for a in attempts],
        [a.url if a else None for a in attempts],
        [a.status if a else None for a in attempts],
        [a.error if a else None for a in attempts],
        [Jsonb(a.request_headers) if a and a.request_headers is not None else None for a in attempts],
        [Jsonb(a.response_headers) if a and a.response_headers is not None else None for a in attempts],
        [a.body if a else None for a in attempts],
        [a.body_truncated if a else None for a in attempts],
        [a.peer_ip if a else None for a in attempts],
        [a.dns_ms if a else None for a in attempts],
        [a.connect_ms if a else None for a in attempts],
        [a.tls_ms if a else None for a in attempts],
        [a.first_byte_ms if a else None for a in attempts],
        [a.total_ms if a else None for a in attempts],
        [one.event_type for one in batch],
    )


def state_of(outcome: Outcome) -> str:
    """Where an outcome leads: waiting, or the state of the history."""
    match outcome:
        case Delivered():
            return "delivered"
        case Retry():
            return "waiting"
        case Dead():
            return "dead"
        case Cancelled():
            return "cancelled"
