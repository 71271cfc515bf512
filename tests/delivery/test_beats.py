"""Ownership is by liveness: who does not beat loses its work, who lost it begins again."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from relay.db import Conn
from relay.delivery import beats
from relay.delivery.beats import BEAT_S, FRESH_S, SILENT_S, Beats
from relay.delivery.live import claim
from relay.runtime import Worker
from relay.settings import Settings
from tests.delivery.crew import NOWHERE, claimed, fan_out, handed_out, open_crew, rows
from tests.shop import Shop, open_shop


@pytest.fixture
async def crew(settings: Settings) -> AsyncIterator[Worker]:
    async with open_crew(settings) as crew:
        yield crew


@pytest.fixture
async def shop(settings: Settings) -> AsyncIterator[Shop]:
    async with open_shop(settings) as shop:
        await shop.endpoint(NOWHERE)
        yield shop


class Clock:
    """A monotonic clock that a test moves."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_silence_is_longer_than_what_a_worker_allows_itself() -> None:
    assert BEAT_S * 3 < FRESH_S < SILENT_S


async def test_what_postgres_knows_and_memory_does_not_goes_back_at_the_second_beat(
    crew: Worker, shop: Shop, conn: Conn
) -> None:
    """A claim whose reply was lost, or whose record a crash of Postgres forgot."""
    known, forgotten, late = await claimed(shop, conn, 3, worker=crew.beats.no)
    crew.holdings.enter([(known.id, known.fence)])
    await crew.beats.beat()
    assert await rows(conn, "SELECT count(*) FROM live WHERE owner IS NULL") == [(0,)]
    crew.holdings.enter([(late.id, late.fence)])
    await crew.beats.beat()
    assert await rows(conn, "SELECT id, lost FROM live WHERE owner IS NULL AND due_at <= now()") == [(forgotten.id, 0)]
    assert await rows(conn, "SELECT ready_at <= now() FROM lanes") == [(True,)]
    crew.holdings.forget([(known.id, known.fence), (late.id, late.fence)])


async def test_a_lane_that_memory_does_not_know_goes_back_at_the_second_beat(
    crew: Worker, shop: Shop, conn: Conn
) -> None:
    await shop.send(1)
    await fan_out(shop, window=0)
    (lane,) = await handed_out(conn)
    await rows(conn, "UPDATE lanes SET owner = %s RETURNING 1", (crew.beats.no,))
    await crew.beats.beat()
    assert await handed_out(conn) == []
    await crew.beats.beat()
    (again,) = await handed_out(conn)
    assert again.fence != lane.fence


async def test_after_a_gap_a_worker_begins_again_and_sends_nothing_it_claimed_before(crew: Worker, conn: Conn) -> None:
    clock = Clock()
    own = Beats(crew.db, crew.holdings, clock=clock)
    await own.beat()
    number, generation = own.no, own.generation
    clock.now_s += FRESH_S - 1
    assert own.may_send(generation)
    await own.beat()
    assert (own.no, own.generation) == (number, generation)
    clock.now_s += FRESH_S
    assert not own.may_send(generation)
    await own.beat()
    assert own.no != number
    assert not own.may_send(generation)
    assert own.may_send(own.generation)


async def test_a_worker_whose_number_is_gone_begins_again(crew: Worker, conn: Conn) -> None:
    number, generation = crew.beats.no, crew.beats.generation
    await rows(conn, "DELETE FROM workers RETURNING 1")
    await crew.beats.beat()
    assert crew.beats.no != number
    assert not crew.beats.may_send(generation)


async def test_a_restart_of_postgres_makes_claims_doubtful(crew: Worker) -> None:
    await crew.beats.beat()
    generation = crew.beats.generation
    crew.beats._started_at = "another start"
    await crew.beats.beat()
    assert not crew.beats.may_send(generation)


async def test_the_work_of_a_silent_worker_goes_back_whole_and_counts_as_lost(shop: Shop, conn: Conn) -> None:
    await shop.endpoint(NOWHERE)
    await shop.send(2)
    await fan_out(shop, window=0)
    for lane in [*await handed_out(conn), *await handed_out(conn)]:
        await rows(conn, "UPDATE lanes SET owner = 5 WHERE fence = %s RETURNING 1", (lane.fence,))
    await rows(conn, "UPDATE live SET owner = 5, fence = 1, sent_at = now(), due_at = NULL RETURNING 1")
    await rows(conn, "INSERT INTO workers (no, name) VALUES (5, 'x') RETURNING 1")
    assert await beats.silent(conn) == []
    async with conn.transaction():
        assert await beats.give_back_silent(conn, 5) == 0
    await rows(conn, "UPDATE workers SET beat_at = now() - interval '11 s' RETURNING 1")
    assert await beats.silent(conn) == [5]
    async with conn.transaction():
        assert await beats.give_back_silent(conn, 5) == 4
    assert await rows(conn, "SELECT DISTINCT owner, fence, due_at <= now(), lost FROM live") == [(None, None, True, 1)]
    assert len([*await handed_out(conn), *await handed_out(conn)]) == 2
    assert await beats.silent(conn) == []


async def test_owners_that_are_in_no_list_are_found(shop: Shop, conn: Conn) -> None:
    """A worker that died before its number reached the disk, or one whose number somebody else gave back."""
    await shop.send(2)
    await claim(conn, await fan_out(shop), worker=77)
    assert await beats.silent(conn) == [77]
    async with conn.transaction():
        assert await beats.give_back_silent(conn, 77) == 2
    assert await beats.silent(conn) == []
