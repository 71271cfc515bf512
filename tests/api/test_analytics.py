"""Analytics and the guide's queries by API: each client sees its own, an operator all, or one by X-Relay-Client."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from relay.db import Conn
from relay.insight import counts, rollups, stats
from relay.settings import Settings
from relay.tenancy.scopes import Scope
from tests.api.conftest import Api, make_key
from tests.rows import World, make_world

FIGURES = """attempts succeeded failed successRate delivered dead cancelled
    avgLatencyMs p50LatencyMs p95LatencyMs p99LatencyMs"""
STATS = f"query($filter: AnalyticsFilter) {{ analyticsStats(filter: $filter) {{ since until asOf {FIGURES} }} }}"
SERIES = f"""query($filter: AnalyticsFilter, $granularity: Granularity!) {{
    analyticsSeries(filter: $filter, granularity: $granularity) {{ start {FIGURES} }} }}"""
BREAKDOWN = """query($filter: AnalyticsFilter, $by: AnalyticsDimension!, $first: Int) {
    analyticsBreakdown(filter: $filter, by: $by, first: $first) {
        key attempts succeeded delivered dead p50LatencyMs } }"""
# As the guide writes them.
DEAD = "{ queueStats { dead } }"
WAITING = "{ queueStats { queued pending } }"
OF_ENDPOINT = '{{ endpoint(id: "{id}") {{ stats {{ successRate avgLatencyMs }} }} }}'


async def happen(world: World) -> None:
    """Three deliveries: one arrived at the second attempt, one dead, one of another type that was cancelled."""
    arrived = await world.finished(await world.event("order.paid"))
    await world.attempt(arrived, 1, status=503, total_ms=10)
    await world.attempt(arrived, 2, total_ms=30)
    dead = await world.finished(await world.event("order.sent"), "dead")
    await world.attempt(dead, status=None, total_ms=30_000)
    await world.finished(await world.event("user.gone"), "cancelled", attempts=0)
    await world.waiting(await world.event("order.paid"))


async def count(conn: Conn) -> None:
    """What the clock does."""
    await counts.refresh(conn)
    await stats.refresh(conn)
    await rollups.refresh(conn)


@pytest.fixture
async def world(conn: Conn) -> World:
    return await make_world(conn)


async def two_clients(locked: Api, conn: Conn, settings: Settings, world: World) -> tuple[Api, Api, World]:
    """It happened once to the first client and twice to another: the first one's key, an operator's, and the other."""
    other = await make_world(conn, "other")
    for happens_to in (world, other, other):
        await happen(happens_to)
    await count(conn)
    mine = Api(locked.conductor, await make_key(conn, settings))
    operator = Api(locked.conductor, await make_key(conn, settings, client="ops", scopes=frozenset(Scope)))
    return mine, operator, other


async def test_the_guides_queries_are_of_one_client_or_for_an_operator_of_all(
    locked: Api, conn: Conn, settings: Settings, world: World
) -> None:
    mine, operator, other = await two_clients(locked, conn, settings, world)
    assert (await mine.data(DEAD))["queueStats"] == {"dead": 1}
    assert (await mine.data(WAITING))["queueStats"] == {"queued": 1, "pending": 1}
    assert (await operator.data(DEAD))["queueStats"] == {"dead": 3}
    assert (await operator.data(WAITING))["queueStats"] == {"queued": 3, "pending": 3}
    acting = {"X-Relay-Client": str(other.tenant_id)}
    assert (await operator.graphql(WAITING, None, **acting))["data"]["queueStats"] == {"queued": 2, "pending": 2}
    of_endpoint = OF_ENDPOINT.format(id=world.endpoint_id)
    found = (await mine.data(of_endpoint))["endpoint"]["stats"]
    assert found == {"successRate": pytest.approx(1 / 3), "avgLatencyMs": pytest.approx(20)}
    assert (await Api(locked.conductor, operator.key).graphql(of_endpoint, None, **acting))["data"]["endpoint"] is None


async def test_figures_are_of_one_client_or_for_an_operator_of_all(
    locked: Api, conn: Conn, settings: Settings, world: World
) -> None:
    mine, operator, other = await two_clients(locked, conn, settings, world)
    found = (await mine.data(STATS))["analyticsStats"]
    until, since, as_of = (datetime.fromisoformat(found.pop(name)) for name in ("until", "since", "asOf"))
    assert until - since == timedelta(days=1, minutes=1)
    assert timedelta(0) <= datetime.now(UTC) - as_of < timedelta(minutes=1)
    assert found == {
        "attempts": 3, "succeeded": 1, "failed": 2, "successRate": pytest.approx(1 / 3),
        "delivered": 1, "dead": 1, "cancelled": 1, "avgLatencyMs": pytest.approx(20),
        "p50LatencyMs": pytest.approx(10, rel=0.1), "p95LatencyMs": pytest.approx(30, rel=0.1),
        "p99LatencyMs": pytest.approx(30, rel=0.1),
    }  # fmt: skip
    foreign = {"endpointId": str(other.endpoint_id)}
    assert (await mine.data(STATS, filter=foreign))["analyticsStats"]["attempts"] == 0
    assert (await operator.data(STATS))["analyticsStats"]["attempts"] == 9
    assert (await operator.data(STATS, filter=foreign))["analyticsStats"]["attempts"] == 6
    acting = {"X-Relay-Client": str(world.tenant_id)}
    for query, more in ((STATS, {}), (SERIES, {"granularity": "HOUR"}), (BREAKDOWN, {"by": "ENDPOINT"})):
        as_operator = (await operator.graphql(query, more, **acting))["data"]
        as_itself = await mine.data(query, **more)
        for answer in (as_operator, as_itself):
            if query is STATS:
                answer["analyticsStats"]["asOf"] = answer["analyticsStats"]["until"] = None
        assert as_operator == as_itself
    send_only = Api(locked.conductor, await make_key(conn, settings, scopes=frozenset({Scope.SEND})))
    assert (await send_only.post("/graphql", {"query": STATS})).status_code == 403


@pytest.fixture
async def mine(locked: Api, conn: Conn, settings: Settings) -> Api:
    """The client of the world."""
    return Api(locked.conductor, await make_key(conn, settings))


async def test_a_series_has_every_bucket_the_oldest_first(mine: Api, conn: Conn, world: World) -> None:
    await happen(world)
    await count(conn)
    now = datetime.now(UTC)
    for granularity, days, step, buckets in (
        ("MINUTE", 0.25, 60, {361}), ("HOUR", 2, 3600, {49, 50}), ("DAY", 30, 86400, {31}), ("WEEK", 69, 604800, {10, 11}),
    ):  # fmt: skip
        since = (now - timedelta(days=days)).isoformat()
        found = (await mine.data(SERIES, granularity=granularity, filter={"since": since}))["analyticsSeries"]
        starts = [datetime.fromisoformat(one["start"]) for one in found]
        assert len(found) in buckets
        assert {(b - a).total_seconds() for a, b in pairwise(starts)} == {step}
        assert granularity != "WEEK" or {start.weekday() for start in starts} == {0}
        assert sum(one["attempts"] for one in found) == sum(one["attempts"] for one in found[-2:]) == 3
        empty = found[0]
        assert (empty["attempts"], empty["successRate"], empty["p95LatencyMs"]) == (0, 1.0, 0.0)


async def test_figures_are_told_apart_by_type_endpoint_status_and_reason(mine: Api, conn: Conn, world: World) -> None:
    await happen(world)
    await count(conn)

    async def found(by: str, **more: object) -> list[tuple[object, ...]]:
        groups = (await mine.data(BREAKDOWN, by=by, **more))["analyticsBreakdown"]
        return [(one["key"], one["attempts"], one["succeeded"], one["delivered"], one["dead"]) for one in groups]

    assert await found("EVENT_TYPE") == [
        ("order.paid", 2, 1, 1, 0),
        ("order.sent", 1, 0, 0, 1),
        ("user.gone", 0, 0, 0, 0),
    ]
    assert await found("ENDPOINT") == [(str(world.endpoint_id), 3, 1, 1, 1)]
    by_status = await found("STATUS")
    assert {one[0] for one in by_status} >= {"200", "503"}
    assert [one[1:] for one in by_status] == [(1, 1, 0, 0), (1, 0, 0, 0), (1, 0, 0, 0)]
    assert ("OK", 1, 1, 1, 0) in await found("REASON")
    assert len(await found("EVENT_TYPE", first=1)) == 1
    assert await found("EVENT_TYPE", filter={"eventType": "order.sent"}) == [("order.sent", 1, 0, 0, 1)]
    assert [one[0] for one in await found("EVENT_TYPE", filter={"eventType": "order.*"})] == [
        "order.paid",
        "order.sent",
    ]


async def test_what_cannot_be_answered_is_invalid_and_names_the_field(mine: Api) -> None:
    long_ago = (datetime.now(UTC) - timedelta(days=34)).isoformat()
    assert (await mine.data(SERIES, granularity="HOUR", filter={"since": long_ago}))["analyticsSeries"]
    for query, variables, field in (
        (SERIES, {"granularity": "MINUTE", "filter": {"since": long_ago}}, "granularity"),
        (STATS, {"filter": {"since": "2999-01-01T00:00:00Z"}}, "since"),
        (STATS, {"filter": {"since": "1999-01-01T00:00:00Z"}}, "since"),
        (STATS, {"filter": {"endpointId": "nonsense"}}, "endpointId"),
        (STATS, {"filter": {"eventType": "a\u0000b"}}, "eventType"),
        (BREAKDOWN, {"by": "ENDPOINT", "first": 101}, "first"),
    ):
        assert await mine.error(query, **variables) == ("INVALID", field)
    many = " ".join(f"a{n}: analyticsSeries(granularity: DAY) {{ start }}" for n in range(70))
    answer = await mine.post("/graphql", {"query": f"{{ {many} }}"})
    assert answer.status_code == 400
