"""Endpoints that only fail: told of after 1, 3 and 4 days, disabled after 5; a success or a long silence starts afresh."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.db import Conn
from relay.delivery.notices import Kind, Notice
from relay.insight import failing, stats
from relay.insight.failing import DISABLE_DAYS, NOTICE_DAYS, SILENCE, due_notice
from tests.delivery.crew import rows
from tests.rows import World, make_world

T0 = datetime(2025, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
spans = st.timedeltas(min_value=timedelta(0), max_value=10 * DAY)


# ---- the decision ----------------------------------------------------------------------------------------------------


@given(steps=st.lists(st.timedeltas(min_value=timedelta(0), max_value=23 * HOUR), min_size=1, max_size=60))
def test_each_step_is_told_at_most_once_in_order_and_never_early(steps: list[timedelta]) -> None:
    at, told, said = T0, 0, list[tuple[int, timedelta]]()
    for step in steps:
        at += step
        days = due_notice(T0, at, told_days=told, now=at)
        if days is not None:
            said.append((days, at - T0))
            told = days
    assert [days for days, _ in said] == sorted({days for days, _ in said})
    assert {days for days, _ in said} <= {*NOTICE_DAYS, DISABLE_DAYS}
    assert all(days * DAY <= span for days, span in said)
    assert (told == DISABLE_DAYS) == (at - T0 >= DISABLE_DAYS * DAY)
    assert [days for days, _ in said] == [days for days in (*NOTICE_DAYS, DISABLE_DAYS) if days * DAY <= at - T0]


@given(span=spans, since_last=spans, told=st.sampled_from((0, *NOTICE_DAYS)))
def test_nothing_is_due_of_an_endpoint_that_was_silent_for_a_day(
    span: timedelta, since_last: timedelta, told: int
) -> None:
    last = T0 + span
    days = due_notice(T0, last, told_days=told, now=last + since_last)
    assert days is None if since_last > DAY else days == due_notice(T0, last, told_days=told, now=last)


@given(waited=spans)
def test_one_failure_alone_is_never_five_days_of_them(waited: timedelta) -> None:
    assert due_notice(T0, T0, told_days=0, now=T0 + waited) is None


# ---- what is known ---------------------------------------------------------------------------------------------------


@pytest.fixture
async def world(conn: Conn) -> World:
    return await make_world(conn)


async def minute(world: World, at: datetime, *, ok: int = 0, failed: int = 1) -> None:
    """What the sums of a minute say of attempts, as the clock has them when that minute is over."""
    await world.conn.execute(
        """INSERT INTO stats (grain, at, tenant_id, endpoint_id, attempts, ok)
           VALUES ('minute', date_trunc('minute', %s::timestamptz), %s, %s, %s, %s)""",
        (at, world.tenant_id, world.endpoint_id, ok + failed, ok),
    )
    await summed_until(world, at + timedelta(minutes=1))


async def summed_until(world: World, at: datetime) -> None:
    await world.conn.execute(
        "INSERT INTO counted (name, at) VALUES ('stats', %s) ON CONFLICT (name) DO UPDATE SET at = excluded.at", (at,)
    )


async def look(world: World, now: datetime) -> list[Notice]:
    """What the clock does every half minute."""
    await failing.note(world.conn, now=now)
    return await failing.judge(world.conn, now=now)


async def fails(world: World, *, begin: float, end: float) -> dict[float, Notice]:
    """Fail every six hours from day `begin` to day `end`; return the notices by the day they came."""
    said: dict[float, Notice] = {}
    for quarter in range(int(begin * 4), int(end * 4) + 1):
        at = T0 + quarter * 6 * HOUR
        await minute(world, at)
        for _ in range(2):
            for notice in await look(world, at + timedelta(minutes=1)):
                assert quarter / 4 not in said
                said[quarter / 4] = notice
    return said


async def spans_of(world: World) -> list[tuple[object, ...]]:
    return await rows(world.conn, "SELECT since, last_at, told_days FROM failing")


async def test_five_days_of_failures_are_told_of_after_1_3_and_4_and_then_end_the_endpoint(world: World) -> None:
    event_id = await world.event()
    delivery_id = await world.waiting(event_id, attempts=1)
    await world.attempt(delivery_id, status=None)
    said = await fails(world, begin=0, end=5)
    assert {day: notice.kind for day, notice in said.items()} == {
        1: Kind.ENDPOINT_FAILING,
        3: Kind.ENDPOINT_FAILING,
        4: Kind.ENDPOINT_FAILING,
        5: Kind.ENDPOINT_DISABLED,
    }
    assert said[3].details == {"since": "2025-01-01T12:00:00Z", "days": 3}
    assert said[5].details == {"reason": "RESPONSE_TIMEOUT"}
    assert await rows(world.conn, "SELECT status, disabled_reason FROM endpoints") == [("disabled", "response_timeout")]
    assert await rows(world.conn, "SELECT reason FROM history WHERE id = %s", [delivery_id]) == [("endpoint_disabled",)]
    assert await fails(world, begin=5.25, end=6) == {}


async def test_without_any_attempt_left_the_reason_is_still_true(world: World) -> None:
    assert (await fails(world, begin=0, end=5))[5].details == {"reason": "ATTEMPTS_EXHAUSTED"}


async def test_an_endpoint_that_is_enabled_again_starts_afresh(world: World) -> None:
    await fails(world, begin=0, end=5)
    await summed_until(world, T0 + 5.5 * DAY)
    await look(world, T0 + 5.5 * DAY)
    await rows(
        world.conn,
        """UPDATE endpoints SET status = 'active', disabled_reason = NULL, disabled_at = NULL, version = version + 1
           RETURNING 1""",
    )
    said = await fails(world, begin=6, end=11)
    assert list(said) == [7, 9, 10, 11]


async def test_a_success_starts_afresh(world: World) -> None:
    assert list(await fails(world, begin=0, end=4.5)) == [1, 3, 4]
    await minute(world, T0 + 4.6 * DAY, ok=1)
    await look(world, T0 + 4.6 * DAY)
    assert await spans_of(world) == []
    assert list(await fails(world, begin=5, end=8)) == [6, 8]


async def test_two_days_of_silence_start_afresh(world: World) -> None:
    await fails(world, begin=0, end=2)
    begin = 2 + SILENCE / DAY + 0.5
    assert list(await fails(world, begin=begin, end=begin + 1)) == [begin + 1]
    assert (await spans_of(world))[0][0] == T0 + begin * DAY


async def test_an_endpoint_that_failed_once_and_got_nothing_is_left_alone(world: World) -> None:
    await minute(world, T0)
    for day in range(10):
        assert await look(world, T0 + day * DAY) == []


async def test_a_minute_with_a_success_is_a_success(world: World) -> None:
    await minute(world, T0)
    await look(world, T0)
    await minute(world, T0 + HOUR, ok=1, failed=9)
    await look(world, T0 + HOUR)
    assert await spans_of(world) == []


async def test_a_success_while_no_clock_ran_is_not_overlooked(world: World) -> None:
    await fails(world, begin=0, end=1)
    back = T0 + 1.9 * DAY
    await minute(world, T0 + 1.25 * DAY, ok=1)
    await minute(world, back)
    await look(world, back)
    assert await spans_of(world) == [(back.replace(second=0, microsecond=0), back.replace(second=0, microsecond=0), 0)]


async def test_a_success_that_the_sums_catch_up_with_later_is_not_overlooked(world: World) -> None:
    """After an outage the sums come hour by hour, while newer minutes may be there already."""
    await fails(world, begin=0, end=1)
    await minute(world, T0 + 1.5 * DAY)
    await summed_until(world, T0 + DAY + HOUR)
    await look(world, T0 + 1.5 * DAY)
    await minute(world, T0 + DAY + HOUR, ok=1)
    await look(world, T0 + 1.5 * DAY)
    found = await spans_of(world)
    assert found == [] or found[0][0] > T0 + DAY + HOUR  # pyright: ignore[reportOperatorIssue]


async def test_a_success_that_is_recorded_late_in_its_minute_ends_the_span(world: World) -> None:
    await minute(world, T0)
    await look(world, T0)
    await rows(world.conn, "UPDATE stats SET ok = 1, attempts = 2 RETURNING 1")
    await look(world, T0 + timedelta(minutes=2))
    assert await spans_of(world) == []


async def test_it_is_read_from_real_attempts(world: World) -> None:
    delivery_id = await world.waiting(await world.event(), attempts=1)
    await world.attempt(delivery_id, status=503)
    await stats.refresh(world.conn)
    await failing.note(world.conn, now=datetime.now(UTC))
    assert await rows(world.conn, "SELECT endpoint_id, tenant_id, since = last_at FROM failing") == [
        (world.endpoint_id, world.tenant_id, True)
    ]
    await world.attempt(delivery_id, n=2)
    await stats.refresh(world.conn)
    await failing.note(world.conn, now=datetime.now(UTC))
    assert await spans_of(world) == []


async def test_hidden_endpoints_are_not_watched(world: World) -> None:
    await rows(world.conn, "UPDATE endpoints SET kind = 'adhoc' RETURNING 1")
    assert await fails(world, begin=0, end=1) == {}
    assert await spans_of(world) == []


async def test_an_endpoint_for_notices_alone_is_disabled_without_a_notice(world: World) -> None:
    await rows(world.conn, "UPDATE endpoints SET event_types = '{relay.*}' RETURNING 1")
    assert await fails(world, begin=0, end=5) == {}
    assert await rows(world.conn, "SELECT status FROM endpoints") == [("disabled",)]
