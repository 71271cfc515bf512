"""Analytics: figures of a window, by time, and by what they are about."""

from __future__ import annotations

import asyncio
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import strawberry
from strawberry import UNSET

from api.graphql.context import RelayInfo
from api.graphql.ids import filter_id
from api.graphql.inputs import given
from api.graphql.needs import Needs
from api.graphql.scalars import SafeInt
from relay.db import Database
from relay.insight import analytics
from relay.insight.analytics import AnalyticsDimension, Asked, Found
from relay.insight.buckets import Granularity
from relay.insight.latencies import Percentiles
from relay.tenancy.scopes import Scope

_READ = [Needs(scope=Scope.READ)]


class Latencies:
    """The percentiles behind the figures of an answer: looked up once, if anybody asks."""

    def __init__(self, db: Database, asked: Asked) -> None:
        self._db = db
        self._asked = asked
        self._found: asyncio.Task[dict[Any, Percentiles]] | None = None

    async def of(self, key: object) -> Percentiles:
        """Return those of a key's figures."""
        if self._found is None:
            self._found = asyncio.create_task(self._look_up())
        return (await self._found).get(key, Percentiles())

    async def _look_up(self) -> dict[Any, Percentiles]:
        async with self._db.connection() as conn:
            return await analytics.percentiles(conn, self._asked)


@strawberry.input(
    description="All that is given must hold. Default: the last 24 hours. Times are rounded outwards to whole buckets, or to"
    " minutes (hours before 2 days ago, days before 35 days ago); nothing is kept longer than 400 days."
)
class AnalyticsFilter:
    """Which figures."""

    since: datetime | None = UNSET
    until: datetime | None = strawberry.field(default=UNSET, description="Exclusive; default and at most: now.")
    endpoint_id: strawberry.ID | None = UNSET
    event_type: str | None = strawberry.field(default=UNSET, description="Exact, or a pattern: order.*")


@strawberry.interface(
    description="Attempts count when they were made, deliveries when they ended. Latencies are of attempts that got an"
    " answer, 0 when there were none; percentiles are at most 10 % off."
)
class AnalyticsFigures:
    """What was tried and what ended."""

    attempts: SafeInt
    succeeded: SafeInt = strawberry.field(description="Attempts answered 2xx.")
    failed: SafeInt = strawberry.field(description="Attempts not answered 2xx.")
    success_rate: float = strawberry.field(description="0..1: succeeded / attempts; 1 when there were none.")
    delivered: SafeInt = strawberry.field(description="Deliveries.")
    dead: SafeInt = strawberry.field(description="Deliveries, also those replayed later.")
    cancelled: SafeInt = strawberry.field(description="Deliveries.")
    avg_latency_ms: float
    key_of_figures: strawberry.Private[object]
    latencies: strawberry.Private[Latencies]

    @strawberry.field
    async def p50_latency_ms(self) -> float:
        """What half of them did not exceed."""
        return (await self.latencies.of(self.key_of_figures)).p50_ms

    @strawberry.field
    async def p95_latency_ms(self) -> float:
        """What 95 % of them did not exceed."""
        return (await self.latencies.of(self.key_of_figures)).p95_ms

    @strawberry.field
    async def p99_latency_ms(self) -> float:
        """What 99 % of them did not exceed."""
        return (await self.latencies.of(self.key_of_figures)).p99_ms


@strawberry.type
class AnalyticsStats(AnalyticsFigures):
    """The figures of a window."""

    since: datetime = strawberry.field(description="The window that was summed: as asked, rounded.")
    until: datetime
    as_of: datetime = strawberry.field(description="Figures are kept by the clock; up to then they are complete.")


@strawberry.type
class AnalyticsBucket(AnalyticsFigures):
    """The figures of one bucket."""

    start: datetime


@strawberry.type
class AnalyticsGroup(AnalyticsFigures):
    """The figures of what has something in common."""

    key: str = strawberry.field(
        description="The event type (empty: none), the endpoint's id, the status code (or the reason, without an answer),"
        " or the reason."
    )


@strawberry.type
class AnalyticsQuery:
    """What can be asked about the past."""

    @strawberry.field(
        directives=_READ, description="What was tried and what ended: the client's, or for an operator of all clients."
    )
    async def analytics_stats(self, info: RelayInfo, filter: AnalyticsFilter | None = UNSET) -> AnalyticsStats:
        """Figures of a window."""
        async with info.context.db.connection() as conn:
            found = await analytics.summary(conn, _client(info), _filter(filter))
        (figures,) = _figures(info, found)
        return AnalyticsStats(
            **figures,
            since=found.window.since,
            until=found.window.until,
            as_of=found.as_of or datetime.fromtimestamp(0, UTC),
        )

    @strawberry.field(
        directives=_READ,
        description="The same by time, the oldest first, with empty buckets; at most 1 500. In UTC, weeks from Monday.",
    )
    async def analytics_series(
        self, info: RelayInfo, granularity: Granularity, filter: AnalyticsFilter | None = UNSET
    ) -> list[AnalyticsBucket]:
        """Figures by time."""
        async with info.context.db.connection() as conn:
            found = await analytics.series(conn, _client(info), _filter(filter), granularity)
        return [AnalyticsBucket(**figures, start=figures["key_of_figures"]) for figures in _figures(info, found)]

    @strawberry.field(
        directives=_READ, description="The same by what it was about, the most attempts first; first is 1 to 100."
    )
    async def analytics_breakdown(
        self, info: RelayInfo, by: AnalyticsDimension, filter: AnalyticsFilter | None = UNSET, first: int | None = 20
    ) -> list[AnalyticsGroup]:
        """Figures by a dimension."""
        size = 20 if first is None else first
        async with info.context.db.connection() as conn:
            found = await analytics.breakdown(conn, _client(info), _filter(filter), by, first=size)
        return [AnalyticsGroup(**figures, key=figures["key_of_figures"]) for figures in _figures(info, found)]


def _client(info: RelayInfo) -> UUID | None:
    caller = info.context.caller
    return None if caller.sees_all_clients else caller.tenant_id


def _filter(filter: AnalyticsFilter | None) -> analytics.AnalyticsFilter:
    if not filter:
        return analytics.AnalyticsFilter()
    values = {name: value for name, value in given(filter).items() if value is not UNSET}
    values["endpoint_id"] = filter_id(values.get("endpoint_id"), field="endpointId")
    return analytics.AnalyticsFilter(**values)


def _figures(info: RelayInfo, found: Found[Any]) -> list[dict[str, Any]]:
    """The fields of the interface, for each key."""
    latencies = Latencies(info.context.db, found.asked)
    return [
        {
            **{field.name: getattr(figures, field.name) for field in fields(figures)},
            "failed": figures.failed,
            "success_rate": figures.success_rate,
            "key_of_figures": key,
            "latencies": latencies,
        }
        for key, figures in found.figures
    ]
