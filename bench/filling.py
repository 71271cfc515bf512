"""Deliveries that are stored as if they had happened: put there by SQL, as fast as Postgres takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Any

import psycopg
from psycopg.rows import TupleRow

from relay import partitions

#: Each has its share of the time, so that they hardly ever meet in a partition.
_CONNECTIONS = 2
# One in a hundred is dead; ids carry the times, as Relay's do, and a delivery has its event's.
_ROWS = b"""
    FROM generate_series(%(from)s::int8, %(until)s::int8 - 1) AS i
    CROSS JOIN LATERAL (
        SELECT %(since)s + %(span)s * ((i - %(first)s)::float8 / %(count)s) AS at, i %% 100 = 0 AS dead,
               (%(endpoints)s::uuid[])[1 + (i / 100) %% cardinality(%(endpoints)s::uuid[])] AS endpoint) t
    CROSS JOIN LATERAL (
        SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::int8), 12, '0') || '70008000'
                || lpad(to_hex(i), 12, '0'))::uuid AS id) u"""
_HISTORY = b"""INSERT INTO history (id, tenant_id, event_id, endpoint_id, state, tier, attempts, reason, created_at,
                                    finished_at)
    SELECT id, %(tenant)s, id, endpoint, CASE WHEN dead THEN 'dead' ELSE 'delivered' END, 1, 1,
           CASE WHEN dead THEN 'gone' ELSE 'ok' END, at, at"""
_EVENTS = b"""INSERT INTO events (id, tenant_id, type, payload, content_type, priority, created_at)
    SELECT id, %(tenant)s, 'bench.stored', %(payload)s, 'application/json', 5, at"""
_FANOUTS = b"""INSERT INTO fanouts (event_id, tenant_id, matched, config_version, at) SELECT id, %(tenant)s, 1, 1, at"""
_ATTEMPTS = b"""INSERT INTO attempts (delivery_id, n, at, tenant_id, endpoint_id, status, reason, request_url, total_ms)
    SELECT id, 1, at, %(tenant)s, endpoint, CASE WHEN dead THEN 410 ELSE 200 END,
           CASE WHEN dead THEN 'gone' ELSE 'ok' END, 'http://127.0.0.1/hook', 20"""
_DEAD = b"""INSERT INTO dead_letters (id, tenant_id, endpoint_id, event_id, reason, died_at, told)
    SELECT id, %(tenant)s, endpoint, id, 'gone', at, true"""
_ALL = (_EVENTS + _ROWS, _FANOUTS + _ROWS, _HISTORY + _ROWS, _ATTEMPTS + _ROWS, _DEAD + _ROWS + b" WHERE dead")
_MINUTES = b"""INSERT INTO stats (grain, at, tenant_id, endpoint_id, created, delivered, attempts, ok, answered, latency_ms,
                  latency)
    SELECT 'minute', date_trunc('minute', now()) - m * interval '1 min', %(tenant)s, %(endpoint)s, n, n, n, n, n, 20.0 * n,
           ARRAY[ARRAY[20, n]]
    FROM generate_series(2, 1200) AS m, (SELECT (%(count)s / 1200)::int AS n) t
    ON CONFLICT DO NOTHING"""


@dataclass(frozen=True, slots=True)
class Stored:
    """So many deliveries of one client, numbered from `first` on, evenly over a time until now, a week at most."""

    endpoints: Sequence[str]
    count: int
    span: timedelta
    first: int = 1
    payload_bytes: int = 256


def fill_history(database_url: str, stored: Stored) -> None:
    """Store the deliveries, and nothing of what belongs to them."""
    _fill(database_url, stored, [_HISTORY + _ROWS])
    with _connected(database_url) as conn:
        conn.execute("ANALYZE history")


def fill(database_url: str, stored: Stored) -> None:
    """Store the deliveries with their events, decisions, attempts and dead letters; leave nothing to clean up."""
    with _connected(database_url) as conn:
        partitions.ensure(conn, now=datetime.now(UTC) - stored.span)
        _fill(database_url, stored, _ALL)
    clean_up(database_url)


def clean_up(database_url: str) -> None:
    """Do now what Postgres would begin by itself in some minutes, beside what is measured."""
    with _connected(database_url) as conn:
        conn.execute("VACUUM (ANALYZE)")
        conn.execute("CHECKPOINT")


def fill_minutes(database_url: str, endpoint: str, *, count: int) -> None:
    """Store what the last 20 hours' statistics of one endpoint hold after so many; minutes that Relay has summed stay."""
    with _connected(database_url) as conn:
        conn.execute(_MINUTES, {"tenant": _tenant(conn, endpoint), "endpoint": endpoint, "count": count})
        conn.execute("ANALYZE stats")


def _fill(database_url: str, stored: Stored, statements: Sequence[bytes]) -> None:
    with _connected(database_url) as conn:
        given = {
            "tenant": _tenant(conn, stored.endpoints[0]),
            "endpoints": list(stored.endpoints),
            "since": datetime.now(UTC) - stored.span,
            "span": stored.span,
            "first": stored.first,
            "count": stored.count,
            "payload": b'{"pad":"%b"}' % (b"x" * (stored.payload_bytes - len('{"pad":""}'))),
        }
    bounds = [stored.first + stored.count * index // _CONNECTIONS for index in range(_CONNECTIONS + 1)]
    shares = [{**given, "from": first, "until": until} for first, until in pairwise(bounds)]
    with ThreadPoolExecutor(_CONNECTIONS) as threads:
        list(threads.map(partial(_execute, database_url, statements), shares))


def _execute(database_url: str, statements: Sequence[bytes], given: Mapping[str, Any]) -> None:
    with _connected(database_url) as conn:
        for statement in statements:
            conn.execute(statement, given)


def _connected(database_url: str) -> psycopg.Connection[TupleRow]:
    return psycopg.connect(database_url, autocommit=True)


def _tenant(conn: psycopg.Connection[TupleRow], endpoint: str) -> Any:
    return conn.execute("SELECT tenant_id FROM endpoints WHERE id = %s", (endpoint,)).fetchall()[0][0]
