"""What an outcome leaves behind, whatever else is in its batch."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest
from psycopg import AsyncConnection

from relay.db import Conn, write_all
from relay.delivery.holdings import Holdings
from relay.delivery.live import Claimed, claim
from relay.delivery.outcomes import Cancelled, Dead, Delivered, Reason, Retry
from relay.delivery.record import Recorded, record
from relay.delivery.recorder import MAX_BATCH_BYTES, MAX_KEPT_BYTES, Recorder
from relay.settings import Settings
from tests.delivery.crew import NOWHERE, claimed, fan_out, recorded, rows
from tests.shop import Shop, open_shop


@pytest.fixture
async def shop(settings: Settings) -> AsyncIterator[Shop]:
    async with open_shop(settings) as shop:
        await shop.endpoint(NOWHERE)
        yield shop


@pytest.fixture
def recorder(shop: Shop) -> Recorder:
    return Recorder(shop.web.db, Holdings(), on_dead=lambda _: None)


async def test_each_outcome_moves_its_delivery_on(shop: Shop, conn: Conn) -> None:
    good, again, dead, taken = await claimed(shop, conn, 4)
    batch = [
        recorded(good, Delivered(), status=200),
        recorded(again, Retry(Reason.HTTP_SERVER_ERROR, 60), status=500),
        recorded(dead, Dead(Reason.ATTEMPTS_EXHAUSTED), reason=Reason.RESPONSE_TIMEOUT),
        Recorded(taken, Cancelled(Reason.ENDPOINT_DELETED), None),
    ]
    assert await record(conn, batch) == [dead.id]
    assert await rows(conn, "SELECT id, state, attempts, reason FROM history ORDER BY id") == [
        (good.id, "delivered", 1, "ok"),
        (dead.id, "dead", 1, "attempts_exhausted"),
        (taken.id, "cancelled", 0, "endpoint_deleted"),
    ]
    assert await rows(conn, "SELECT id, attempts, reason, fence, owner, due_at > now() + '59 s' FROM live") == [
        (again.id, 1, "http_server_error", None, None, True)
    ]
    assert await rows(conn, "SELECT id FROM dead_letters") == [(dead.id,)]
    assert await rows(conn, "SELECT delivery_id, n, status, reason FROM attempts ORDER BY delivery_id") == [
        (good.id, 1, 200, "ok"),
        (again.id, 1, 500, "http_server_error"),
        (dead.id, 1, None, "response_timeout"),
    ]
    assert await rows(conn, "SELECT ready_at = (SELECT due_at FROM live) FROM lanes") == [(True,)]


async def test_an_outcome_under_an_old_fence_changes_nothing(shop: Shop, conn: Conn) -> None:
    (one,) = await claimed(shop, conn, 1)
    stale = replace(one, fence=one.fence ^ 1)
    assert await record(conn, [recorded(stale, Dead(Reason.GONE))]) == []
    assert await rows(conn, "SELECT count(*) FROM attempts") == [(0,)]
    assert await rows(conn, "SELECT owner, fence FROM live") == [(1, one.fence)]


async def test_of_two_outcomes_of_one_delivery_in_a_batch_the_one_with_the_fence_counts(shop: Shop, conn: Conn) -> None:
    (one,) = await claimed(shop, conn, 1)
    stale = replace(one, fence=one.fence ^ 1)
    await record(conn, [recorded(stale, Delivered(), status=200), recorded(one, Dead(Reason.GONE), status=410)])
    assert await rows(conn, "SELECT n, status FROM attempts") == [(1, 410)]
    assert await rows(conn, "SELECT state FROM history") == [("dead",)]


async def test_an_outcome_that_comes_twice_is_one_attempt(shop: Shop, conn: Conn, recorder: Recorder) -> None:
    for one in await claimed(shop, conn, 20):
        recorder.add(recorded(one, Delivered(), status=200))
        recorder.add(recorded(one, Dead(Reason.GONE), status=410))
    await recorder.flush()
    assert await rows(conn, "SELECT state, count(*) FROM history GROUP BY 1") == [("delivered", 20)]
    assert await rows(conn, "SELECT status, count(*) FROM attempts GROUP BY 1") == [(200, 20)]


async def test_batches_with_the_same_rows_in_any_order_meet_no_error(shop: Shop, conn: Conn, database_url: str) -> None:
    mine = await claimed(shop, conn, 200)

    async def write(batch: list[Claimed]) -> None:
        outcomes = [recorded(one, Delivered() if one.id.int % 2 else Retry(Reason.THROTTLED, 60)) for one in batch]
        await write_all(shop.web.db, outcomes, _record, hopeless=_fail)

    batches = [random.sample(mine, 150) for _ in range(16)]
    await asyncio.gather(*(write(batch) for batch in batches))
    expected = len({one.id for batch in batches for one in batch})
    assert await rows(conn, "SELECT count(*), count(DISTINCT delivery_id) FROM attempts") == [(expected, expected)]


async def _record(conn: Conn, batch: Sequence[Recorded]) -> None:
    await record(conn, batch)


async def _fail(one: Recorded, cause: Exception) -> None:
    raise AssertionError(one) from cause


@pytest.mark.parametrize("bad", [{"body": b"poison"}, {"error": "\ud800"}, {"response_headers": {"x": "\0"}}])
async def test_an_answer_that_cannot_be_stored_costs_the_answer_and_no_other_outcome(
    shop: Shop, conn: Conn, recorder: Recorder, bad: dict[str, object]
) -> None:
    await conn.execute("ALTER TABLE attempts ADD CHECK (body <> 'poison')")
    mine = await claimed(shop, conn, 50)
    for n, one in enumerate(mine):
        recorder.add(recorded(one, Delivered(), status=200, **(bad if n == 17 else {})))
    async with asyncio.timeout(10):
        await recorder.flush()
    assert await rows(conn, "SELECT state, count(*) FROM history GROUP BY 1") == [("delivered", 50)]
    assert await rows(conn, "SELECT delivery_id, n, status, reason, body FROM attempts WHERE reason <> 'ok'") == [
        (mine[17].id, 1, 200, "unrecordable", None)
    ]
    assert await rows(conn, "SELECT count(*) FROM attempts") == [(50,)]


async def test_outcomes_are_kept_while_postgres_is_away(shop: Shop, conn: Conn, recorder: Recorder) -> None:
    mine = await claimed(shop, conn, 30)
    await conn.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'relay'")
    for one in mine:
        recorder.add(recorded(one, Delivered(), status=200))
    async with asyncio.timeout(15):
        await recorder.flush()
    assert await rows(conn, "SELECT count(*) FROM history") == [(30,)]


async def test_a_claim_is_hot_and_neither_it_nor_a_record_reads_a_partitioned_table(
    shop: Shop, conn: Conn, database_url: str
) -> None:
    scans = """SELECT sum(coalesce(seq_scan, 0) + coalesce(idx_scan, 0)) FROM pg_stat_user_tables
               WHERE relname ~ '^(history|attempts|events|fanouts)'"""
    await shop.send(2000)
    dispatched = await fan_out(shop)
    async with await AsyncConnection.connect(database_url, autocommit=True) as own:
        before = await rows(conn, scans)
        mine = [one for n in range(0, 2000, 100) for one in await claim(own, dispatched[n : n + 100], worker=1)]
        await rows(own, "SELECT pg_stat_force_next_flush()")
        await rows(own, "SELECT 1")
        ((updated, hot),) = await rows(
            conn, "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'live'"
        )
        for n in range(0, 2000, 100):
            await record(own, [recorded(one, Delivered(), status=200) for one in mine[n : n + 100]])
        await rows(own, "SELECT pg_stat_force_next_flush()")
        await rows(own, "SELECT 1")
        assert await rows(conn, scans) == before
    assert updated == 2000
    assert isinstance(hot, int)
    assert hot >= 1800


async def test_a_retry_does_not_take_what_another_worker_owns_by_now(shop: Shop, conn: Conn) -> None:
    (ours,) = await claimed(shop, conn, 1, worker=1)
    await conn.execute("UPDATE live SET owner = 2")
    await record(conn, [recorded(ours, Retry(Reason.HTTP_SERVER_ERROR, 1.0))])
    assert await rows(conn, "SELECT owner, due_at, attempts FROM live") == [(2, None, 0)]


async def test_large_answers_that_are_not_recorded_yet_hold_up_backlogs_first_and_then_everything(
    shop: Shop, conn: Conn, recorder: Recorder
) -> None:
    batches: list[int] = []
    recorder.on_recorded.append(lambda batch: batches.append(len(batch)))
    size = MAX_BATCH_BYTES // 2
    seen: list[tuple[bool, bool]] = []
    for one in await claimed(shop, conn, MAX_KEPT_BYTES // size):
        recorder.add(recorded(one, Delivered(), status=200, body=bytes(size)))
        recorder.add(recorded(one, Delivered(), status=200, body=bytes(size)))  # counts once
        seen.append((recorder.behind, recorder.full))
    half = len(seen) // 2
    assert seen == [(False, False)] * (half - 1) + [(True, False)] * half + [(True, True)]
    await recorder.flush()
    assert (recorder.behind, recorder.full) == (False, False)
    assert batches == [2] * half
