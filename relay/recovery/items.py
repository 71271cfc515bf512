"""What a job goes through, a chunk at a time in the order of ids: final deliveries to repeat, or events to send on.

Each statement looks at a bounded number of rows, however few of them fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

from psycopg import sql

from relay.catalog.filters import Filter
from relay.db import Conn
from relay.delivery.deliveries import id_bounds
from relay.recovery.replay import Final
from relay.recovery.replay_spec import ReplaySpec

T = TypeVar("T")

_LOOK = 1_000
_LOOK_TO_COUNT = 10_000


@dataclass(frozen=True, slots=True)
class Scope:
    """What a job is about: only what was there, and for a replay was final, `before` it began (None: by now).

    `patterns` and `filter`: what the endpoint that a backfill is for subscribes to.
    """

    tenant_id: UUID
    spec: ReplaySpec
    before: datetime | None = None
    patterns: Sequence[str] = ()
    filter: Filter | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """An event that an endpoint subscribes to; `served`: it has a delivery of it, or its fan-out will see to it."""

    event_id: UUID
    priority: int
    served: bool


@dataclass(frozen=True, slots=True)
class Chunk(Generic[T]):
    """Some items, and the last id that was looked at for them; None when there is nothing beyond."""

    items: list[T]
    last: UUID | None


#: The same rule as `relay.catalog.subscriptions.matches`, for Postgres: what was asked for, and the endpoint's own.
_TYPES = sql.SQL(
    """ AND (e.type = ANY(%(types_exact)s::text[]) OR e.type ^@ ANY(%(types_below)s::text[])
             OR %(types_any)s AND NOT e.type ^@ 'relay.')"""
)
_SUBSCRIBED = sql.SQL(
    """ AND (e.type = ANY(%(own_exact)s::text[]) OR e.type ^@ ANY(%(own_below)s::text[])
             OR %(own_any)s AND NOT e.type ^@ 'relay.')"""
)
_ENDPOINT = sql.SQL(" AND h.endpoint_id = %(endpoint_id)s")
_UNDELIVERED = sql.SQL(" AND h.state <> 'delivered'")
_NOTHING = sql.SQL("")


async def next_finals(conn: Conn, scope: Scope, *, after: UUID | None, limit: int) -> Chunk[Final]:
    """Return the next deliveries to repeat, at most `limit`, settled ones included."""
    rows = await conn.execute(
        _finals(scope.spec) + sql.SQL(
            """SELECT (SELECT id FROM s ORDER BY id DESC LIMIT 1), x.* FROM (SELECT) one LEFT JOIN (
                   SELECT id, event_id, endpoint_id, state, tier, lane, seq FROM i ORDER BY id LIMIT %(limit)s) x ON true
               ORDER BY x.id"""
        ),
        {**_parameters(scope, after, look=_LOOK), "limit": limit},
    )  # fmt: skip
    found = await rows.fetchall()
    items = [Final(*row[1:]) for row in found if row[1] is not None]
    return Chunk(items, items[-1].id if len(items) == limit else found[0][0])


async def next_events(conn: Conn, scope: Scope, *, after: UUID | None, limit: int) -> Chunk[Candidate]:
    """Return the next events that the endpoint of a backfill subscribes to, at most `limit`, served ones included."""
    rows = await conn.execute(
        _events(scope.spec) + sql.SQL(
            """SELECT (SELECT id FROM s ORDER BY id DESC LIMIT 1), x.* FROM (SELECT) one LEFT JOIN (
                   SELECT id, priority, """
        ) + _SERVED + sql.SQL(" FROM i ORDER BY id LIMIT %(limit)s) x ON true ORDER BY x.id"),
        {**_parameters(scope, after, look=_LOOK), "limit": limit},
    )  # fmt: skip
    found = await rows.fetchall()
    items = [Candidate(*row[1:]) for row in found if row[1] is not None]
    return Chunk(items, items[-1].event_id if len(items) == limit else found[0][0])


async def count_next(conn: Conn, scope: Scope, *, after: UUID | None) -> tuple[UUID | None, int, int]:
    """Look at the next 10 000 rows; return the last of them (None: there is none), the items, and those to be skipped."""
    backfill = scope.spec.to_endpoint_id is not None
    rows = await conn.execute(
        (_events(scope.spec) if backfill else _finals(scope.spec))
        + sql.SQL("SELECT (SELECT id FROM s ORDER BY id DESC LIMIT 1), count(*), count(*) FILTER (WHERE ")
        + (_SERVED if backfill else _SETTLED) + sql.SQL(") FROM i"),
        _parameters(scope, after, look=_LOOK_TO_COUNT),
    )  # fmt: skip
    last, items, skipped = (await rows.fetchall())[0]
    return last, items, skipped


def _finals(spec: ReplaySpec) -> sql.Composed:
    """What was looked at (s), and the items among it (i)."""
    endpoint = _ENDPOINT if spec.endpoint_id is not None else _NOTHING
    states = _UNDELIVERED if "delivered" not in spec.states else _NOTHING
    types = sql.SQL(" AND EXISTS (SELECT FROM events e WHERE e.id = s.event_id") + _TYPES + sql.SQL(" OFFSET 0)")
    return sql.SQL(
        """WITH s AS MATERIALIZED (
               SELECT h.* FROM history h WHERE h.tenant_id = %(tenant_id)s AND h.id > %(after)s AND h.id < %(to_id)s"""
    ) + endpoint + states + sql.SQL(
        """ ORDER BY h.id LIMIT %(look)s),
           i AS (
               SELECT s.* FROM s
               WHERE s.state = ANY(%(states)s::text[]) AND s.created_at >= %(since)s AND s.created_at < %(until)s
                 AND s.finished_at < coalesce(%(before)s, now())"""
    ) + (types if spec.event_types else _NOTHING) + sql.SQL(") ")  # fmt: skip


def _events(spec: ReplaySpec) -> sql.Composed:
    """What was looked at (s), and the items among it (i): nothing that was sent to one endpoint only."""
    return sql.SQL(
        """WITH s AS MATERIALIZED (
               SELECT e.id, e.type, e.priority, e.endpoint_id, e.created_at, e.payload IS NULL AS erased FROM events e
               WHERE e.tenant_id = %(tenant_id)s AND e.id > %(after)s AND e.id < %(to_id)s ORDER BY e.id LIMIT %(look)s),
           i AS (
               SELECT e.* FROM s e
               WHERE e.endpoint_id IS NULL AND NOT e.erased AND e.created_at >= %(since)s AND e.created_at < %(until)s
                 AND e.created_at < coalesce(%(before)s, now())"""
    ) + _SUBSCRIBED + (_TYPES if spec.event_types else _NOTHING) + sql.SQL(") ")  # fmt: skip


_SETTLED = sql.SQL(
    """CASE i.state
           WHEN 'dead' THEN NOT EXISTS (SELECT FROM dead_letters x WHERE x.id = i.id)
           WHEN 'cancelled' THEN EXISTS (SELECT FROM live r WHERE r.replay_of = i.id)
               OR EXISTS (SELECT FROM history r WHERE r.replay_of = i.id AND r.id >= %(from_id)s)
           ELSE false END"""
)
#: The endpoint has a delivery of the event; or the event is not fanned out, so that its fan-out will match it or not.
_SERVED = sql.SQL(
    """NOT EXISTS (SELECT FROM fanouts f WHERE f.event_id = i.id AND NOT f.cancelled)
       OR EXISTS (SELECT FROM live d WHERE d.event_id = i.id AND d.endpoint_id = %(endpoint_id)s)
       OR EXISTS (SELECT FROM history d WHERE d.event_id = i.id AND d.endpoint_id = %(endpoint_id)s AND d.id >= %(from_id)s)"""
)


def _parameters(scope: Scope, after: UUID | None, *, look: int) -> dict[str, Any]:
    spec = scope.spec
    bounds = id_bounds(spec.since, spec.until)
    return {
        **bounds,
        **_kinds("types", spec.event_types or ()),
        **_kinds("own", scope.patterns),
        "tenant_id": scope.tenant_id,
        "endpoint_id": spec.own_endpoint_id,
        "states": spec.states,
        "since": spec.since,
        "until": spec.until,
        "before": scope.before,
        "after": after or bounds["from_id"],
        "look": look,
    }


def _kinds(name: str, patterns: Sequence[str]) -> dict[str, Any]:
    """Patterns by kind: exact names, what stands before a `.*` with its dot, and whether `*` is among them."""
    return {
        f"{name}_exact": [one for one in patterns if not one.endswith("*")],
        f"{name}_below": [one[:-1] for one in patterns if one.endswith(".*")],
        f"{name}_any": "*" in patterns,
    }
