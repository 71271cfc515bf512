"""What `relay.send_event` was called for becomes events, once each and in order; what may not is set aside, visibly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import psycopg
import pytest

from relay.db import Conn
from relay.intake import producers
from relay.intake.taking_in import TakingIn
from relay.queue import UNREACHABLE
from relay.settings import Settings
from relay.tasks import cancel
from tests.delivery.crew import fan_out, rows
from tests.running import until, until_true
from tests.shop import Shop, open_shop

SEND = "SELECT relay.send_event('shop', 'order.paid', %s, key => %s)"
WAITING = "SELECT count(*)::int FROM producer_events"
REASONS = "SELECT refused FROM producer_events ORDER BY n"


@pytest.fixture
async def shop(settings: Settings) -> AsyncIterator[Shop]:
    async with open_shop(settings) as shop:
        yield shop


def taking_in(shop: Shop, *, rung: list[int] | None = None) -> TakingIn:
    """One that tells in `rung` which shards it rang for."""

    async def ring(shards: Sequence[int]) -> None:
        (rung if rung is not None else []).extend(shards)

    limit = shop.web.settings.max_payload_bytes
    return TakingIn(shop.web.db, leads=lambda: True, ring=ring, max_payload_bytes=limit)


async def send(conn: Conn, payload: str | bytes, key: str | None = None) -> Any:
    return (await (await conn.execute(SEND, (payload, key))).fetchall())[0][0]


async def payloads(conn: Conn) -> list[bytes]:
    """Those of the events that are stored, in the order in which they are fanned out."""
    found = await rows(conn, "SELECT e.payload FROM outbox o JOIN events e ON e.id = o.event_id ORDER BY o.n")
    return [payload for (payload,) in found if isinstance(payload, bytes)]


async def test_a_call_becomes_the_event_with_all_it_was_given(shop: Shop, conn: Conn) -> None:
    ((id,),) = await rows(
        conn,
        """SELECT relay.send_event('shop', 'photo.taken', '\\x00ff'::bytea, key => 'k', headers => '{"x-a": "b"}',
               subject => 's', priority => 9, content_type => 'image/png')""",
    )
    later = await rows(conn, "SELECT relay.send_event('shop', 'a', '1', deliver_at => now() + interval '1 hour')")
    rung: list[int] = []
    assert await taking_in(shop, rung=rung).take_in()
    assert rung == [shop.tenant_id.int & 15]
    found = await rows(
        conn,
        """SELECT id, tenant_id, type, payload, content_type, headers, subject, priority, idempotency_key, scheduled_at
           FROM events WHERE type <> 'a'""",
    )
    assert found == [
        (id, shop.tenant_id, "photo.taken", b"\0\xff", "image/png", {"x-a": "b"}, "s", 9, "k", None),
    ]
    assert await rows(conn, "SELECT event_id FROM scheduled") == later
    assert await rows(conn, WAITING) == [(0,)]
    assert len(await fan_out(shop)) == 0, "the shop has no endpoint"
    assert await rows(conn, "SELECT event_id FROM fanouts") == [(id,)]


async def test_a_key_is_one_event_whichever_way_it_came(shop: Shop, conn: Conn) -> None:
    taking = taking_in(shop)
    first = await send(conn, '{"n":1}', "k")
    await send(conn, '{"n":1}', "k")
    await send(conn, '{"n":2}', "other")
    while await taking.take_in():
        pass
    (by_http,) = await shop.accept(shop.event(b'{"n":1}', idempotency_key="k"))
    assert (getattr(by_http, "id", None), getattr(by_http, "duplicate", None)) == (first, True)
    await send(conn, '{"n":3}', "k")
    while await taking.take_in():
        pass
    assert await payloads(conn) == [b'{"n":1}', b'{"n":2}']
    assert await rows(conn, REASONS) == [("This idempotency key was used for a different request.",)]


async def test_what_breaks_a_rule_that_only_relay_knows_is_set_aside_with_its_reason(
    shop: Shop, conn: Conn, caplog: pytest.LogCaptureFixture
) -> None:
    taking = taking_in(shop)
    await send(conn, '"' + "x" * shop.web.settings.max_payload_bytes + '"')
    await send(conn, "null")
    await conn.execute("SELECT relay.send_event('shop', 'a', '{\"b\": {\"c\": 1, \"c\": 2}}')")
    await conn.execute("SELECT relay.send_event('shop', 'a', repeat('[', 129) || repeat(']', 129))")
    await conn.execute("SELECT relay.send_event('shop', 'a', '1', headers => '{\"host\": \"evil\"}')")
    await conn.execute("SELECT relay.send_event('shop', 'a', '1', headers => '{\"x-a\": 1}')")
    await conn.execute("SELECT relay.send_event('shop', 'a', '1', content_type => 'no media type')")
    await conn.execute("UPDATE tenants SET unknown_event_types = 'refuse', types_version = types_version + 1")
    await conn.execute(
        "INSERT INTO event_types (id, tenant_id, name) VALUES (gen_random_uuid(), %s, 'a')", (shop.tenant_id,)
    )
    await conn.execute("SELECT relay.send_event('shop', 'a', '\"good\"')")
    assert await taking.take_in()
    assert await payloads(conn) == [b'"good"']
    limit = shop.web.settings.max_payload_bytes
    assert await rows(conn, REASONS) == [
        ("eventType order.paid is not known; this client allows a. createEventType makes another.",),
        ("eventType order.paid is not known; this client allows a. createEventType makes another.",),
        ("b.c stands there twice.",),
        ("payload must be JSON that is nested less deeply; 128 levels are allowed.",),
        ("headers must not hold host, which is reserved.",),
        ("headers.x-a must be a string.",),
        ("contentType must be a media type, like application/json.",),
    ]
    assert caplog.text.count("from SQL is refused and set aside") == 7
    # The cause is gone: they come again.
    await conn.execute("UPDATE tenants SET unknown_event_types = 'allow'")
    await conn.execute("UPDATE producer_events SET refused = NULL WHERE type = 'order.paid'")
    assert await taking_in(shop).take_in()
    assert await rows(conn, REASONS + " LIMIT 2") == [
        (f"payload has {limit + 2} bytes; the limit is {limit}.",),
        ("payload must not be null.",),
    ]
    await conn.execute("UPDATE producer_events SET sent_at = now() - interval '40 days' WHERE n = 1")
    assert await producers.forget_refused(conn, keep_days=30) == 1


async def test_a_payload_that_does_not_fit_the_schema_of_its_type_is_set_aside(shop: Shop, conn: Conn) -> None:
    await conn.execute(
        """WITH t AS (
               INSERT INTO event_types (id, tenant_id, name, schema, revision)
               SELECT gen_random_uuid(), id, 'order.paid', '{"type": "object", "required": ["total"]}', 1 FROM tenants
               RETURNING id, schema)
           INSERT INTO event_type_revisions (type_id, revision, schema) SELECT id, 1, schema FROM t"""
    )
    await conn.execute("UPDATE tenants SET types_version = types_version + 1")
    for payload in ('{"total": 1}', '{"sum": 1}', '{"total": 2}'):
        await send(conn, payload)
    assert await taking_in(shop).take_in()
    assert await payloads(conn) == [b'{"total": 1}', b'{"total": 2}']
    ((reason,),) = await rows(conn, REASONS)
    assert "payload does not fit the schema of order.paid (revision 1)" in str(reason)


async def test_a_row_that_cannot_be_stored_stands_alone_and_the_others_pass(shop: Shop, conn: Conn) -> None:
    for n in range(5):
        await send(conn, str(n))
    # Of a day without a partition, as of a caller whose transaction was open for ever.
    await conn.execute("UPDATE producer_events SET id = '00000000-0000-7000-8000-000000000000' WHERE n = 3")
    taking = taking_in(shop)
    while await taking.take_in():
        pass
    assert await payloads(conn) == [b"0", b"1", b"3", b"4"]
    ((reason,),) = await rows(conn, REASONS)
    assert str(reason).startswith("It holds something that cannot be stored: no partition of relation")


async def test_a_commit_that_is_late_is_not_passed_over_and_many_come_in_order(
    shop: Shop, conn: Conn, database_url: str
) -> None:
    taking = taking_in(shop)
    async with await psycopg.AsyncConnection.connect(database_url) as late:
        await send(late, '"late"')
        for n in range(3):
            await conn.execute(
                "SELECT relay.send_event('shop', 'a', (%s * 400 + i)::text) FROM generate_series(0, 399) AS i", (n,)
            )
            while await taking.take_in():
                pass
        await late.commit()
    assert await taking.take_in()
    assert await payloads(conn) == [*(str(n).encode() for n in range(1200)), b'"late"']
    while await taking.take_in():
        pass
    await send(conn, '"next"')
    assert await taking.take_in()
    assert (await payloads(conn))[-1] == b'"next"'


async def test_large_payloads_are_taken_in_by_parts(shop: Shop, conn: Conn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producers, "MAX_BYTES", 80_000)
    await conn.execute(
        """SELECT relay.send_event('shop', 'a', '"' || repeat('x', 10000) || '"') FROM generate_series(1, 20)"""
    )
    taking = taking_in(shop)
    for parts in (8, 16, 20):
        assert await taking.take_in()
        assert len(await payloads(conn)) == parts
    assert not await taking.take_in()


async def test_only_the_process_whose_clock_leads_takes_in(shop: Shop, conn: Conn) -> None:
    asked: list[int] = []
    leads = False

    def is_leading() -> bool:
        asked.append(1)
        return leads

    async def ring(_: Sequence[int]) -> None:
        raise UNREACHABLE[0]("no Redis; the clock will find it")

    taking = TakingIn(shop.web.db, leads=is_leading, ring=ring, max_payload_bytes=1000)
    running = asyncio.create_task(taking.run())
    try:
        await send(conn, "1")
        await until(lambda: len(asked) > 2)
        assert await rows(conn, WAITING) == [(1,)]
        leads = True
        await until_true(conn, "SELECT NOT EXISTS (SELECT 1 FROM producer_events)")
        assert await payloads(conn) == [b"1"]
    finally:
        await cancel([running])


async def test_only_one_takes_in_at_a_time(shop: Shop, conn: Conn, database_url: str) -> None:
    await send(conn, "1")
    async with await psycopg.AsyncConnection.connect(database_url) as other:
        await other.execute("SELECT pg_advisory_xact_lock(7014)")
        assert not await taking_in(shop).take_in()
        await other.rollback()
        assert await rows(conn, WAITING) == [(1,)]
    assert await taking_in(shop).take_in()
    assert await rows(conn, WAITING) == [(0,)]
