"""The gates that circuits and `Retry-After` close: each stands on its endpoint's '' lane, one row however much waits.

A circuit's transition is guarded by the epoch it was decided in and begins another one, so what was decided twice, or of
old, changes nothing. Every function is one statement for many endpoints and locks lanes in order of endpoint and key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from relay.db import Conn
from relay.delivery.live import TEST_LANE, Dispatched
from relay.delivery.outcomes import Reason
from relay.ids import fence

#: An endpoint, and the epoch of its gate under which an outcome was sent.
Epoch = tuple[UUID, int]
_PROBE_GRACE_S = 15


class CircuitStatus(StrEnum):
    """CLOSED: deliveries flow. OPEN: they are held. HALF_OPEN: one of them may find out, or is finding out, how it is."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class Gate:
    """Why an endpoint gets nothing now, and until when (None: until somebody acts)."""

    reason: Reason
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Circuit:
    """An endpoint's circuit; `threshold` failures in a row open it."""

    status: CircuitStatus
    epoch: int
    threshold: int
    opened_at: datetime | None
    next_probe_at: datetime | None

    def failures(self, counted: int) -> int:
        """The failures in a row when `counted` were counted in this epoch: no fewer than it took to open the circuit."""
        return counted if self.status is CircuitStatus.CLOSED else max(counted, self.threshold)


@dataclass(frozen=True, slots=True)
class Standing:
    """How an endpoint stands: what holds it back now, if anything does, and its circuit."""

    gate: Gate | None
    circuit: Circuit


@dataclass(frozen=True, slots=True)
class Opened:
    """A circuit that has opened."""

    tenant_id: UUID
    endpoint_id: UUID
    next_probe_at: datetime


@dataclass(frozen=True, slots=True)
class Closed:
    """A circuit that has closed."""

    tenant_id: UUID
    endpoint_id: UUID


async def open_circuits(conn: Conn, broken: Iterable[Epoch]) -> list[Opened]:
    """Open the circuits of these endpoints for as long as each wants, where that epoch lasts and none is open.

    No shorter than a `Retry-After` asked for: lanes sleep until then.
    """
    rows = await conn.execute(
        """WITH x AS MATERIALIZED (
            SELECT l.endpoint_id, u.next_epoch,
                   greatest(l.gate_until, now() + make_interval(secs => e.circuit_reset_ms / 1000.0)) AS until
            FROM unnest(%s::uuid[], %s::int8[], %s::int8[]) AS u (endpoint_id, epoch, next_epoch)
            JOIN lanes l ON l.endpoint_id = u.endpoint_id AND l.key = '' AND l.gate_epoch = u.epoch
                AND l.gate_reason IS DISTINCT FROM 'circuit_open'
            JOIN endpoints e ON e.id = u.endpoint_id AND e.status = 'active' AND e.deleted_at IS NULL
            ORDER BY l.endpoint_id FOR NO KEY UPDATE OF l)
        UPDATE lanes l SET gate_reason = 'circuit_open', gate_until = x.until, gate_epoch = x.next_epoch,
            opened_at = now(), probe_until = NULL
        FROM x WHERE l.endpoint_id = x.endpoint_id AND l.key = ''
        RETURNING l.tenant_id, l.endpoint_id, l.gate_until""",
        _columns(broken),
    )
    return [Opened(*row) async for row in rows]


async def reopen_circuits(conn: Conn, failed: Mapping[Epoch, float]) -> list[UUID]:
    """Hold these endpoints once more after a failed probe, and at least for the given seconds; return which.

    Lanes that slept until the probe's end sleep until the next one may be.
    """
    rows = await conn.execute(
        """WITH r AS MATERIALIZED (
            SELECT l.endpoint_id, l.key, u.next_epoch, u.delay_s, g.probe_until,
                   l.gate_epoch = u.epoch AND l.gate_reason = 'circuit_open' AS is_open
            FROM unnest(%s::uuid[], %s::int8[], %s::int8[], %s::float8[]) AS u (endpoint_id, epoch, next_epoch, delay_s)
            JOIN lanes g ON g.endpoint_id = u.endpoint_id AND g.key = ''
            JOIN lanes l ON l.endpoint_id = u.endpoint_id AND (l.key = '' OR l.ready_at = g.probe_until)
            ORDER BY l.endpoint_id, l.key FOR NO KEY UPDATE OF l),
        c AS MATERIALIZED (
            SELECT r.endpoint_id, r.next_epoch, r.probe_until,
                   now() + make_interval(secs => greatest(e.circuit_reset_ms / 1000.0, r.delay_s)) AS until
            FROM r JOIN endpoints e ON e.id = r.endpoint_id WHERE r.key = '' AND r.is_open)
        UPDATE lanes l SET
            ready_at = CASE WHEN l.ready_at = c.probe_until THEN c.until ELSE l.ready_at END,
            gate_until = CASE WHEN l.key = '' THEN c.until END, gate_epoch = c.next_epoch, probe_until = NULL
        FROM r JOIN c USING (endpoint_id) WHERE l.endpoint_id = r.endpoint_id AND l.key = r.key
        RETURNING l.key, l.endpoint_id""",
        (*_columns(failed), list(failed.values())),
    )
    return [row[1] async for row in rows if row[0] == ""]


async def close_circuits(conn: Conn, healed: Iterable[Epoch]) -> list[Closed]:
    """Close the circuits of these endpoints, where that epoch lasts, and ring all their lanes."""
    rows = await conn.execute(
        """WITH r AS MATERIALIZED (
            SELECT l.endpoint_id, l.key, u.next_epoch, l.gate_epoch = u.epoch AND l.gate_reason = 'circuit_open' AS is_open
            FROM unnest(%s::uuid[], %s::int8[], %s::int8[]) AS u (endpoint_id, epoch, next_epoch)
            JOIN lanes l ON l.endpoint_id = u.endpoint_id
            ORDER BY l.endpoint_id, l.key FOR NO KEY UPDATE OF l)
        UPDATE lanes l SET ready_at = least(l.ready_at, now()), gate_reason = NULL, gate_until = NULL, opened_at = NULL,
            probe_until = NULL, gate_epoch = c.next_epoch
        FROM r JOIN r AS c ON c.endpoint_id = r.endpoint_id AND c.key = '' AND c.is_open
        WHERE l.endpoint_id = r.endpoint_id AND l.key = r.key
        RETURNING l.key, l.tenant_id, l.endpoint_id""",
        _columns(healed),
    )
    return [Closed(*row[1:]) async for row in rows if row[0] == ""]


async def throttle(conn: Conn, delays_s: Mapping[UUID, float]) -> None:
    """Hold these endpoints for as many seconds as each asked for, and no shorter than before; a circuit's gate stays."""
    await conn.execute(
        """WITH x AS MATERIALIZED (
            SELECT l.endpoint_id, now() + make_interval(secs => u.delay_s) AS until
            FROM unnest(%s::uuid[], %s::float8[]) AS u (endpoint_id, delay_s)
            JOIN lanes l ON l.endpoint_id = u.endpoint_id AND l.key = ''
                AND l.gate_reason IS DISTINCT FROM 'circuit_open'
            JOIN endpoints e ON e.id = u.endpoint_id AND e.status = 'active' AND e.deleted_at IS NULL
            ORDER BY l.endpoint_id FOR NO KEY UPDATE OF l)
        UPDATE lanes l SET gate_reason = 'throttled', gate_until = greatest(l.gate_until, x.until)
        FROM x WHERE l.endpoint_id = x.endpoint_id AND l.key = ''""",
        (list(delays_s), list(delays_s.values())),
    )


async def try_probe(conn: Conn, endpoint_id: UUID) -> int | None:
    """Become the one in the system that probes an endpoint whose circuit is half open; return the epoch, or None.

    The probe is ours for the endpoint's time-out and 15 s more, or until its outcome moves the circuit on.
    """
    rows = await conn.execute(
        """UPDATE lanes l SET probe_until = now() + make_interval(secs => e.timeout_ms / 1000.0 + %s)
           FROM endpoints e
           WHERE l.endpoint_id = %s AND l.key = '' AND e.id = l.endpoint_id AND NOT l.paused
             AND l.gate_reason = 'circuit_open' AND l.gate_until <= now() AND coalesce(l.probe_until <= now(), true)
           RETURNING l.gate_epoch""",
        (_PROBE_GRACE_S, endpoint_id),
    )
    row = await rows.fetchone()
    return row[0] if row else None


async def any_closed(conn: Conn) -> bool:
    """Tell whether any endpoint's gate is closed, and forget pauses of `Retry-After` that are over."""
    rows = await conn.execute(
        """WITH over AS (
            UPDATE lanes l SET gate_reason = NULL, gate_until = NULL
            FROM (SELECT endpoint_id FROM lanes
                  WHERE key = '' AND gate_reason = 'throttled' AND gate_until <= now()
                  ORDER BY endpoint_id LIMIT 100 FOR NO KEY UPDATE SKIP LOCKED) x
            WHERE l.endpoint_id = x.endpoint_id AND l.key = '')
        SELECT EXISTS (SELECT 1 FROM lanes WHERE key = '' AND (paused OR gate_reason IS NOT NULL)
                       AND gate_closed(paused, gate_reason, gate_until))"""
    )
    row = await rows.fetchone()
    return bool(row and row[0])


async def park(conn: Conn, dispatched: Sequence[Dispatched]) -> list[UUID]:
    """Put those of these unclaimed deliveries whose gate is closed back into their lanes, due now; return which.

    No attempt is counted. Test deliveries pass every gate. Commits asynchronously: what a crash forgets is parked again.
    """
    rows = await conn.execute(
        """WITH s AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true)),
        x AS MATERIALIZED (
            SELECT l.id, CASE WHEN g.paused THEN %s ELSE g.gate_reason END AS reason
            FROM s, unnest(%s::uuid[], %s::int8[]) AS u (id, fence)
            JOIN live l ON l.id = u.id AND l.fence = u.fence AND l.owner IS NULL AND l.lane <> %s
            JOIN lanes g ON g.endpoint_id = l.endpoint_id AND g.key = ''
                AND gate_closed(g.paused, g.gate_reason, g.gate_until)
            ORDER BY l.id FOR UPDATE OF l SKIP LOCKED),
        w AS (
            UPDATE live l SET fence = NULL, sent_at = NULL, due_at = now(), reason = x.reason FROM x WHERE l.id = x.id
            RETURNING l.id, l.endpoint_id, l.lane, l.tenant_id, l.tier),
        ring AS (
            INSERT INTO lanes (endpoint_id, key, tenant_id, tier, ready_at)
            SELECT DISTINCT endpoint_id, lane, tenant_id, tier, now() FROM w ORDER BY endpoint_id, lane
            ON CONFLICT (endpoint_id, key) DO UPDATE SET ready_at = least(lanes.ready_at, excluded.ready_at))
        SELECT id FROM w""",
        (Reason.PAUSED, [one.id for one in dispatched], [one.fence for one in dispatched], TEST_LANE),
    )
    return [row[0] async for row in rows]


async def standings(conn: Conn, endpoint_ids: Sequence[UUID]) -> dict[UUID, Standing]:
    """How these endpoints stand, by endpoint."""
    rows = await conn.execute(
        """SELECT l.endpoint_id,
                  CASE WHEN gate_closed(l.paused, l.gate_reason, l.gate_until)
                       THEN CASE WHEN l.paused THEN %s ELSE l.gate_reason END END,
                  CASE WHEN NOT l.paused THEN greatest(l.gate_until, l.probe_until) END,
                  CASE WHEN l.gate_reason IS DISTINCT FROM 'circuit_open' THEN 'closed'
                       WHEN l.gate_until > now() THEN 'open' ELSE 'half_open' END,
                  l.gate_epoch, e.circuit_threshold, l.opened_at,
                  CASE WHEN l.gate_reason = 'circuit_open' THEN greatest(l.gate_until, l.probe_until) END
           FROM lanes l JOIN endpoints e ON e.id = l.endpoint_id
           WHERE l.endpoint_id = ANY(%s::uuid[]) AND l.key = ''""",
        (Reason.PAUSED, list(endpoint_ids)),
    )
    return {
        id: Standing(Gate(Reason(reason), until) if reason else None, Circuit(CircuitStatus(status), *circuit))
        async for id, reason, until, status, *circuit in rows
    }


def _columns(epochs: Iterable[Epoch]) -> tuple[list[object], ...]:
    """Endpoints, the epochs that must last, and those that begin."""
    epochs = list(epochs)
    return [id for id, _ in epochs], [epoch for _, epoch in epochs], [fence() for _ in epochs]
