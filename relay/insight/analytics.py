"""Analytics: what was tried and what ended in a window of time, in all, by time, or by what it was about.

Everything is read from rollups, so a year costs as little as a day. The caller names the client, or all of them by None.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Generic, Literal, TypeVar
from uuid import UUID

from psycopg import sql

from relay.db import Conn
from relay.insight import buckets, latencies
from relay.insight.buckets import Grain, Granularity, Piece, Window, pieces
from relay.insight.latencies import Percentiles
from relay.insight.rollups import DAYS_CLOSED, HOURS_CLOSED, MINUTES_SET
from relay.paging import check_first
from relay.specs import check_text

K = TypeVar("K")


class AnalyticsDimension(StrEnum):
    """What figures are told apart by."""

    EVENT_TYPE = "event_type"
    ENDPOINT = "endpoint"
    STATUS = "status"
    REASON = "reason"


@dataclass(frozen=True, slots=True)
class Figures:
    """What was tried (attempts) and what ended (deliveries). Latencies in ms, of attempts that got an answer."""

    attempts: int = 0
    succeeded: int = 0
    delivered: int = 0
    dead: int = 0
    cancelled: int = 0
    avg_latency_ms: float = 0.0

    @property
    def failed(self) -> int:
        """Count the attempts that were not answered 2xx."""
        return self.attempts - self.succeeded

    @property
    def success_rate(self) -> float:
        """Return the share of attempts that were answered 2xx; 1 when there were none."""
        return self.succeeded / self.attempts if self.attempts else 1.0


@dataclass(frozen=True, slots=True)
class AnalyticsFilter:
    """What figures are about: all that is given must hold. A type is exact, or a pattern like `order.*`."""

    since: datetime | None = None
    until: datetime | None = None
    endpoint_id: UUID | None = None
    event_type: str | None = None

    def __post_init__(self) -> None:
        """Raise Invalid for a text that no row can hold."""
        check_text(self.event_type, field="eventType")


@dataclass(frozen=True, slots=True)
class Asked:
    """Which rollups were read, and by what their figures are told apart: for `percentiles` of the same."""

    rows: sql.Composed
    values: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Found(Generic[K]):
    """Figures by key, in order."""

    figures: Sequence[tuple[K, Figures]]
    asked: Asked


@dataclass(frozen=True, slots=True)
class Summary(Found[str]):
    """The figures of a window, under an empty key, and up to when they were counted (None: never)."""

    window: Window
    as_of: datetime | None


@dataclass(frozen=True, slots=True)
class _Kept:
    now: datetime
    as_of: datetime | None
    closed: Mapping[Grain, datetime]


_KEYS = {
    AnalyticsDimension.EVENT_TYPE: sql.SQL("r.event_type"),
    AnalyticsDimension.ENDPOINT: sql.SQL("r.endpoint_id::text"),
    AnalyticsDimension.STATUS: sql.SQL("CASE WHEN r.status > 0 THEN r.status::text ELSE upper(r.reason) END"),
    AnalyticsDimension.REASON: sql.SQL("upper(r.reason)"),
}
_ALL = sql.SQL("''")
_BUCKET = sql.SQL("date_bin(%(step)s::interval, r.at, '1970-01-05+00')")
# OFFSET 0: each piece is a range of an index, whatever the planner thinks of their number.
_ROWS = sql.SQL(
    """FROM unnest(%(grains)s::text[], %(since)s::timestamptz[], %(until)s::timestamptz[]) AS p (grain, since, until)
       CROSS JOIN LATERAL (
           SELECT {key} AS key, * FROM rollups r
           WHERE r.grain = p.grain AND r.at >= p.since AND r.at < p.until{where} OFFSET 0) r """
)
_CLAUSES = {
    "tenant_id": sql.SQL(" AND r.tenant_id = %(tenant_id)s"),
    # With its client, by which the index begins: before version 18 Postgres cannot skip that.
    "endpoint_id": sql.SQL(
        " AND r.endpoint_id = %(endpoint_id)s AND r.tenant_id = (SELECT tenant_id FROM endpoints WHERE id = %(endpoint_id)s)"
    ),
    "tried": sql.SQL(" AND r.attempts > 0"),
}


async def summary(conn: Conn, tenant_id: UUID | None, filter: AnalyticsFilter) -> Summary:
    """Return the figures of a window. Raises Invalid for one of which nothing is kept."""
    kept = await _kept(conn)
    window = buckets.window(filter.since, filter.until, now=kept.now)
    asked = _asked(tenant_id, filter, pieces(window, coarsest=Grain.DAY, closed=kept.closed), key=_ALL)
    found = await _figures(conn, asked)
    return Summary([("", found.get("", Figures()))], asked, window, kept.as_of)


async def series(
    conn: Conn, tenant_id: UUID | None, filter: AnalyticsFilter, granularity: Granularity
) -> Found[datetime]:
    """Return the figures by time, the oldest first; empty buckets are there. Raises Invalid for too many buckets."""
    kept = await _kept(conn)
    window = buckets.series(filter.since, filter.until, granularity, now=kept.now)
    read = pieces(window, coarsest=granularity.grain, closed=kept.closed)
    asked = _asked(tenant_id, filter, read, key=_BUCKET, step=granularity.step)
    found = await _figures(conn, asked)
    return Found([(at, found.get(at, Figures())) for at in buckets.starts(window, granularity)], asked)


async def breakdown(
    conn: Conn, tenant_id: UUID | None, filter: AnalyticsFilter, dimension: AnalyticsDimension, *, first: int
) -> Found[str]:
    """Return the `first` groups with most attempts and ends. STATUS knows attempts only. Raises Invalid as `summary`."""
    check_first(first)
    kept = await _kept(conn)
    window = buckets.window(filter.since, filter.until, now=kept.now)
    read = pieces(window, coarsest=Grain.DAY, closed=kept.closed)
    asked = _asked(tenant_id, filter, read, key=_KEYS[dimension], tried=dimension is AnalyticsDimension.STATUS or None)
    found = await _figures(conn, asked)
    ranked = sorted(found.items(), key=lambda item: (-item[1].attempts, -_ends(item[1]), item[0]))
    return Found(ranked[:first], asked)


async def percentiles(conn: Conn, asked: Asked) -> dict[Any, Percentiles]:
    """Return the latencies behind figures, by key: apart, for they cost ten times the sums."""
    rows = await conn.execute(
        sql.SQL("SELECT r.key, r.latency[i][1], sum(r.latency[i][2])::int8 ") + asked.rows
        + sql.SQL("CROSS JOIN LATERAL generate_subscripts(r.latency, 1) AS i GROUP BY 1, 2 ORDER BY 1, 2"),
        asked.values,
    )  # fmt: skip
    found: dict[Any, list[tuple[int, int]]] = {}
    async for key, bucket, n in rows:
        found.setdefault(key, []).append((bucket, n))
    return {key: latencies.percentiles(pairs) for key, pairs in found.items()}


def _ends(figures: Figures) -> int:
    return figures.delivered + figures.dead + figures.cancelled


async def _kept(conn: Conn) -> _Kept:
    rows = await conn.execute(
        "SELECT now(), (SELECT jsonb_object_agg(name, extract(epoch FROM at)) FROM counted WHERE name = ANY(%s))",
        ([MINUTES_SET, HOURS_CLOSED, DAYS_CLOSED],),
    )
    now, told = (await rows.fetchall())[0]
    at = {name: datetime.fromtimestamp(float(epoch), UTC) for name, epoch in (told or {}).items()}
    never = datetime.fromtimestamp(0, UTC)
    closed = {Grain.HOUR: at.get(HOURS_CLOSED, never), Grain.DAY: at.get(DAYS_CLOSED, never)}
    return _Kept(now, at.get(MINUTES_SET), closed)


def _asked(
    tenant_id: UUID | None,
    filter: AnalyticsFilter,
    read: Iterable[Piece],
    *,
    key: sql.SQL,
    step: timedelta | None = None,
    tried: Literal[True] | None = None,
) -> Asked:
    """`step`: of the buckets, if the key is one. `tried`: without what ended, for whose rows the key means nothing."""
    parts = list(read)
    given = {"tenant_id": tenant_id, "endpoint_id": filter.endpoint_id, "tried": tried}
    of_type, types = _of_type(filter.event_type)
    where = [clause for name, clause in _CLAUSES.items() if given[name] is not None]
    return Asked(
        _ROWS.format(key=key, where=sql.SQL("").join([*where, of_type])),
        {
            **given,
            **types,
            "step": step,
            "grains": [piece.grain.value for piece in parts],
            "since": [piece.since for piece in parts],
            "until": [piece.until for piece in parts],
        },
    )


def _of_type(event_type: str | None) -> tuple[sql.SQL, dict[str, str]]:
    if event_type is None:
        return sql.SQL(""), {}
    if event_type.endswith(".*"):
        return sql.SQL(" AND starts_with(r.event_type, %(type)s)"), {"type": event_type.removesuffix("*")}
    return sql.SQL(" AND r.event_type = %(type)s"), {"type": event_type}


async def _figures(conn: Conn, asked: Asked) -> dict[Any, Figures]:
    rows = await conn.execute(
        sql.SQL(
            """SELECT r.key, sum(r.attempts)::int8,
                      coalesce(sum(r.attempts) FILTER (WHERE r.status BETWEEN 200 AND 299), 0)::int8,
                      sum(r.delivered)::int8, sum(r.dead)::int8, sum(r.cancelled)::int8,
                      coalesce(sum(r.latency_us)::float8 / 1000 / nullif(
                          sum(r.attempts) FILTER (WHERE r.status > 0), 0)::float8, 0) """
        ) + asked.rows + sql.SQL("GROUP BY 1"),
        asked.values,
    )  # fmt: skip
    return {row[0]: Figures(*row[1:]) async for row in rows}
