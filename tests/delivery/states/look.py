"""Reads all that tests/delivery/test_state_machine.py compares with its model, as it stands in the database."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from relay.db import Conn
from tests.delivery.states.model import Parcel, Seen, Stand, Task, Track

_PARCELS = """
    SELECT id, event_id, endpoint_id, lane, tier, seq, first, replay_of, job_id,
           CASE WHEN owner IS NOT NULL THEN 'sending' WHEN fence IS NOT NULL THEN 'dispatched' ELSE 'waiting' END,
           fence, owner, attempts, lost, coalesce(due_at > now(), false), released_fence, false
    FROM live WHERE tenant_id = %(tenant)s
    UNION ALL
    SELECT id, event_id, endpoint_id, lane, tier, seq, first, replay_of, job_id, state, NULL, NULL, attempts, 0, false, NULL,
           state = 'dead' AND NOT EXISTS (SELECT FROM dead_letters x WHERE x.id = h.id)
    FROM history h WHERE tenant_id = %(tenant)s"""
_STANDS = """
    SELECT e.id, e.status = 'active', e.deleted_at IS NOT NULL, l.paused,
           CASE WHEN gate_reason = 'throttled' AND gate_until > now() THEN 'throttled'
                WHEN gate_reason = 'circuit_open' AND gate_until > now() THEN 'open'
                WHEN gate_reason = 'circuit_open' AND probe_until > now() THEN 'probing'
                WHEN gate_reason = 'circuit_open' THEN 'half_open' ELSE '' END, gate_epoch
    FROM endpoints e JOIN lanes l ON l.endpoint_id = e.id AND l.key = '' WHERE e.tenant_id = %(tenant)s"""
_PLACES = """
    SELECT e.id, CASE WHEN o.n IS NOT NULL THEN 'outbox' WHEN s.event_id IS NOT NULL THEN 'scheduled'
                      WHEN f.cancelled THEN 'cancelled' WHEN f.event_id IS NOT NULL THEN 'fanned' ELSE 'nowhere' END,
           o.n, f.matched, e.type LIKE 'relay.%%'
    FROM events e LEFT JOIN outbox o ON o.event_id = e.id LEFT JOIN scheduled s ON s.event_id = e.id
    LEFT JOIN fanouts f ON f.event_id = e.id WHERE e.tenant_id = %(tenant)s ORDER BY o.n"""
_TRACKS = "SELECT endpoint_id, key, fence, owner, blocked_by, next_seq FROM lanes WHERE tenant_id = %(tenant)s"
_TASKS = "SELECT id, status, total, done, skipped, failed FROM jobs WHERE tenant_id = %(tenant)s"
#: Lanes that nobody will look at although there is something to send: neither paused nor blocked, and with no time to wake
#: at, or one later than what is due, or what gate stands before it, lets them.
_SLEEPERS = """
    SELECT w.endpoint_id, w.lane, w.due_at, l.ready_at FROM (
        SELECT endpoint_id, lane, min(due_at) AS due_at FROM live
        WHERE tenant_id = %(tenant)s AND seq IS NULL AND due_at IS NOT NULL GROUP BY 1, 2
        UNION ALL
        (SELECT DISTINCT ON (endpoint_id, lane) endpoint_id, lane, due_at FROM live
         WHERE tenant_id = %(tenant)s AND seq IS NOT NULL ORDER BY endpoint_id, lane, seq)) w
    JOIN lanes g ON g.endpoint_id = w.endpoint_id AND g.key = ''
    LEFT JOIN lanes l ON l.endpoint_id = w.endpoint_id AND l.key = w.lane
    WHERE w.due_at IS NOT NULL AND NOT g.paused AND (l.endpoint_id IS NULL OR NOT l.ready AND l.fence IS NULL
        AND l.blocked_by IS NULL AND coalesce(l.ready_at > greatest(w.due_at, g.gate_until, g.probe_until, now()), true))"""


async def look(conn: Conn, tenant: UUID) -> Seen:
    """How a client's deliveries, lanes, endpoints, events and jobs stand; asserts that no lane sleeps with work in it."""
    queries = (_PARCELS, _STANDS, _PLACES, _TRACKS, _TASKS, _SLEEPERS)
    async with conn.pipeline():
        cursors = [await conn.execute(query.encode(), {"tenant": tenant}) for query in queries]
    parcels, stands, places, tracks, tasks, sleepers = [await one.fetchall() for one in cursors]
    assert sleepers == []
    return _seen(parcels, stands, [one for one in places if not one[4]], tracks, tasks, places)


def _seen(
    parcels: list[tuple[Any, ...]],
    stands: list[tuple[Any, ...]],
    places: list[tuple[Any, ...]],
    tracks: list[tuple[Any, ...]],
    tasks: list[tuple[Any, ...]],
    every: list[tuple[Any, ...]],
) -> Seen:
    return Seen(
        {row[0]: Parcel(*row) for row in parcels},
        {row[0]: Stand(*row[1:]) for row in stands},
        {(row[0], row[1]): Track(*row[2:]) for row in tracks},
        {row[0]: row[1] for row in places},
        [row[0] for row in places if row[1] == "outbox"],
        {row[0]: row[3] for row in places if row[3] is not None},
        {row[0]: Task(*row[1:]) for row in tasks},
        notices=sum(row[4] and row[1] == "outbox" for row in every),
    )
