"""What one accept statement stores, and what keys do."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from psycopg import AsyncConnection

from relay.db import Conn
from relay.errors import Conflict, Invalid, RelayError, Unavailable
from relay.intake import accept
from relay.intake.accept import Accepted, Candidate
from relay.settings import Settings
from tests.shop import Shop, accepted, open_shop


@pytest.fixture
async def shop(settings: Settings) -> AsyncIterator[Shop]:
    async with open_shop(settings) as shop:
        yield shop


async def stored(conn: Conn) -> tuple[int, int, int, int]:
    """How many events, outbox rows, scheduled events and keys there are."""
    rows = await conn.execute(
        """SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM outbox), (SELECT count(*) FROM scheduled),
                  (SELECT count(*) FROM idempotency_keys)"""
    )
    return (await rows.fetchall())[0]


async def test_a_list_is_stored_in_its_order(shop: Shop, conn: Conn) -> None:
    receipts = accepted(await shop.accept(*(shop.event(b"%d" % n) for n in range(1200))))
    rows = await conn.execute("SELECT event_id FROM outbox ORDER BY n")
    assert [row[0] for row in await rows.fetchall()] == [receipt.id for receipt in receipts]
    assert await stored(conn) == (1200, 1200, 0, 0)


async def test_an_event_with_a_time_waits_for_it(shop: Shop, conn: Conn) -> None:
    soon = datetime.now(UTC) + timedelta(minutes=5)
    by_time, by_delay, past = accepted(
        await shop.accept(
            shop.event(deliver_at=soon), shop.event(delay_s=60), shop.event(deliver_at=datetime(2020, 1, 1, tzinfo=UTC))
        )
    )
    assert by_time.scheduled_at == soon
    assert by_delay.scheduled_at == by_delay.created_at + timedelta(seconds=60)
    assert await stored(conn) == (3, 1, 2, 0)
    rows = await conn.execute("SELECT event_id FROM outbox")
    assert await rows.fetchall() == [(past.id,)]


async def test_the_same_key_gives_the_first_event(shop: Shop, conn: Conn) -> None:
    (first,) = accepted(await shop.accept(shop.event(idempotency_key="k")))
    (again,) = accepted(await shop.accept(shop.event(idempotency_key="k")))
    assert again == Accepted(first.id, first.created_at, None, duplicate=True)
    assert await stored(conn) == (1, 1, 0, 1)


@pytest.mark.parametrize(
    "other", [{"payload": b"[]"}, {"type": "x"}, {"subject": "s"}, {"priority": 1}, {"delay_s": 1}]
)
async def test_the_same_key_with_another_request_is_a_conflict(
    shop: Shop, conn: Conn, other: dict[str, object]
) -> None:
    await shop.accept(shop.event(idempotency_key="k"))
    (refused,) = await shop.accept(shop.event(**{"idempotency_key": "k", **other}))  # pyright: ignore[reportArgumentType]
    assert isinstance(refused, Conflict)
    assert refused.field == "idempotencyKey"
    assert await stored(conn) == (1, 1, 0, 1)


async def test_the_same_key_twice_in_one_list_is_one_event(shop: Shop, conn: Conn) -> None:
    first, other, again, conflict = await shop.accept(
        shop.event(idempotency_key="k"),
        shop.event(idempotency_key="l"),
        shop.event(idempotency_key="k"),
        shop.event(b"[]", idempotency_key="k"),
    )
    assert isinstance(first, Accepted)
    assert isinstance(other, Accepted)
    assert again == Accepted(first.id, first.created_at, None, duplicate=True)
    assert isinstance(conflict, Conflict)
    assert await stored(conn) == (2, 2, 0, 2)


async def test_clients_do_not_share_keys(shop: Shop, conn: Conn) -> None:
    await shop.accept(shop.event(idempotency_key="k"))
    other = accept.NewEvent(shop.web.ids(), b"[]", "x", idempotency_key="k")
    assert not accepted(await shop.accept(other))[0].duplicate
    assert await stored(conn) == (2, 2, 0, 2)


async def test_a_key_that_ended_is_taken_over(shop: Shop, conn: Conn) -> None:
    (first,) = accepted(await shop.accept(shop.event(idempotency_key="k")))
    await conn.execute("UPDATE idempotency_keys SET expires_at = now() - interval '1 s'")
    (second,) = accepted(await shop.accept(shop.event(b"[]", idempotency_key="k")))
    (third,) = accepted(await shop.accept(shop.event(b"[]", idempotency_key="k")))
    assert second.id != first.id
    assert not second.duplicate
    assert third.id == second.id


async def test_a_key_lasts_24_hours_and_is_swept_then(shop: Shop, conn: Conn) -> None:
    await shop.accept(shop.event(idempotency_key="k"), shop.event(idempotency_key="l"))
    rows = await conn.execute("SELECT DISTINCT expires_at - now() > interval '23 h 59 min' FROM idempotency_keys")
    assert await rows.fetchall() == [(True,)]
    await conn.execute("UPDATE idempotency_keys SET expires_at = now() - interval '1 s' WHERE key = 'k'")
    assert await accept.forget_expired_keys(conn) == 1
    assert await stored(conn) == (2, 2, 0, 1)


async def test_100_requests_with_one_key_on_two_web_processes_are_one_event(
    shop: Shop, settings: Settings, conn: Conn
) -> None:
    async with open_shop(settings) as second:
        calls = [(shop, second)[n % 2].accept(shop.event(idempotency_key="k")) for n in range(100)]
        receipts = [accepted(one)[0] for one in await asyncio.gather(*calls)]
    assert len({receipt.id for receipt in receipts}) == 1
    assert sum(not receipt.duplicate for receipt in receipts) == 1
    assert await stored(conn) == (1, 1, 0, 1)


async def test_32_clients_with_overlapping_key_batches_meet_no_error(
    shop: Shop, settings: Settings, conn: Conn
) -> None:
    async with open_shop(settings) as second:
        calls = [
            (shop, second)[n % 2].accept(
                *(shop.event(idempotency_key=f"k{(n * 7 + k * (-1) ** n) % 60}") for k in range(40))
            )
            for n in range(32)
            for _ in range(3)
        ]
        receipts = [receipt for one in await asyncio.gather(*calls) for receipt in accepted(one)]
    assert len(receipts) == 32 * 3 * 40
    assert len({receipt.id for receipt in receipts}) == 60
    assert await stored(conn) == (60, 60, 0, 60)


async def test_two_statements_with_the_same_keys_in_other_order_do_not_meet(shop: Shop, conn: Conn) -> None:
    async def store(names: list[str]) -> int:
        events = [shop.event(idempotency_key=name) for name in names]
        candidates = [Candidate(shop.web.ids(), event, event.request_hash()) for event in events]
        async with shop.web.db.connection() as own:
            return len((await accept.store(own, candidates, lock_timeout_ms=5000)).receipts)

    for n in range(6):
        names = [f"{n}-{k}" for k in range(400)]
        orders = (names, names[::-1], random.sample(names, 400), random.sample(names, 400))
        assert sum(await asyncio.gather(*(store(order) for order in orders))) == 400
    assert await stored(conn) == (2400, 2400, 0, 2400)


BAD = {
    "a NUL in the type": {"type": "a\0b"},
    "a NUL in the key": {"idempotency_key": "a\0b"},
    "a surrogate in the subject": {"subject": "\ud800"},
    "a NUL in a header": {"headers": {"x": "a\0b"}},
    "a surrogate in a header": {"headers": {"x": "\ud800"}},
    "a priority out of range": {"priority": 11},
    "a number too large": {"max_attempts": 1 << 40},
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
async def test_a_row_that_cannot_be_stored_harms_no_other(shop: Shop, conn: Conn, bad: dict[str, object]) -> None:
    requests = [shop.accept(shop.event(b"%d" % n, idempotency_key=f"k{n}")) for n in range(40)]
    requests.insert(17, shop.accept(shop.event(**bad)))  # pyright: ignore[reportArgumentType]
    answers = [one[0] for one in await asyncio.gather(*requests)]
    assert isinstance(answers.pop(17), Invalid)
    accepted(answers)
    assert await stored(conn) == (40, 40, 0, 40)


async def test_a_key_in_somebodys_open_transaction_holds_up_only_its_own_request(
    shop: Shop, conn: Conn, database_url: str
) -> None:
    async with await AsyncConnection.connect(database_url) as other:
        await other.execute(
            "INSERT INTO idempotency_keys VALUES (%s, 'held', %s, '\\x00', now() + interval '1 h')",
            (shop.tenant_id, shop.web.ids()),
        )
        began = asyncio.get_running_loop().time()
        requests = [shop.accept(shop.event(idempotency_key=f"k{n}")) for n in range(40)]
        requests.append(shop.accept(shop.event(idempotency_key="held")))
        *answers, refused = [one[0] for one in await asyncio.gather(*requests)]
        took = asyncio.get_running_loop().time() - began
        await other.rollback()
    accepted(answers)
    assert isinstance(refused, Unavailable)
    assert took < 3.0
    assert not accepted(await shop.accept(shop.event(idempotency_key="held")))[0].duplicate


async def test_more_than_can_wait_is_refused(shop: Shop) -> None:
    waiting = [asyncio.ensure_future(shop.accept(*[shop.event()] * 1000)) for _ in range(20)]
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    refused = [one for one in answers if isinstance(one, RelayError)]
    assert refused
    assert all(isinstance(one, Unavailable) and one.retry_after_s for one in refused)
    for one in answers:
        if isinstance(one, list):
            accepted(one)
