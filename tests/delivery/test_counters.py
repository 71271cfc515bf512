"""Failures in a row are counted for all processes together, and only as long as Redis keeps them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from relay.delivery.counters import Counters, Tally
from relay.queue import UNREACHABLE

NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture
async def counters(redis_url: str) -> AsyncIterator[Counters]:
    made = Counters(redis_url)
    yield made
    await made.close()


def an_epoch(number: int = 0) -> tuple[UUID, int]:
    return uuid4(), number


@given(st.lists(st.booleans()))
def test_a_tally_is_the_failures_since_the_last_success(outcomes: list[bool]) -> None:
    tally = Tally()
    for succeeded in outcomes:
        (tally.succeed if succeeded else tally.fail)()
    assert tally.succeeded == any(outcomes)
    assert tally.failures == len(outcomes) - max((n + 1 for n, one in enumerate(outcomes) if one), default=0)


async def test_failures_add_up_and_a_success_starts_anew(counters: Counters) -> None:
    one, two = an_epoch(), an_epoch()
    assert await counters.count({one: Tally(failures=2), two: Tally(failures=1)}) == {one: 2, two: 1}
    assert await counters.count({one: Tally(failures=3)}) == {one: 5}
    assert await counters.count({one: Tally(succeeded=True, failures=1), two: Tally(succeeded=True)}) == {
        one: 1,
        two: 0,
    }
    assert await counters.read([two, one]) == [0, 1]


async def test_each_epoch_has_a_count_of_its_own(counters: Counters) -> None:
    endpoint = uuid4()
    await counters.count({(endpoint, 1): Tally(failures=4)})
    assert await counters.count({(endpoint, 2): Tally(failures=1)}) == {(endpoint, 2): 1}
    assert await counters.read([(endpoint, 1), (endpoint, 2), (endpoint, 3)]) == [4, 1, 0]


async def test_two_processes_count_as_one(counters: Counters, redis_url: str) -> None:
    epoch, other = an_epoch(), Counters(redis_url)
    await counters.count({epoch: Tally(failures=2)})
    assert await other.count({epoch: Tally(failures=2)}) == {epoch: 4}
    await other.close()


async def test_a_count_is_forgotten_an_hour_after_the_last_failure(counters: Counters, redis_url: str) -> None:
    await counters.count({an_epoch(): Tally(failures=1)})
    with redis.Redis.from_url(redis_url) as client:
        (key,) = client.keys("relay:breaker:*")
        assert 3590 < client.ttl(key) <= 3600


async def test_a_redis_that_is_away_is_one_of_the_known_errors() -> None:
    away = Counters(NOWHERE)
    with pytest.raises(UNREACHABLE):
        await away.count({an_epoch(): Tally(failures=1)})
    with pytest.raises(UNREACHABLE):
        await away.read([an_epoch()])
    await away.close()
