"""Partitions come and go, and neither intake nor the clock waits for it."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from psycopg import Connection
from psycopg.rows import TupleRow

from relay import partitions
from relay.ids import floor_at
from relay.intake.accept import Accepted
from relay.settings import Settings
from tests.shop import accepted, open_shop

TODAY = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
OLD = TODAY - timedelta(days=40)


def connect(database_url: str) -> Connection[TupleRow]:
    return psycopg.connect(database_url, autocommit=True)


def names(conn: Connection[TupleRow], day: datetime) -> set[str]:
    """The partitions of a day."""
    rows = conn.execute(
        "SELECT relname::text FROM pg_class WHERE relkind = 'r' AND relname ~ %s", (f"^[a-z]+_{day:%Y%m%d}$",)
    )
    return {row[0] for row in rows}


def test_two_days_back_to_seven_ahead_are_there(database_url: str) -> None:
    with connect(database_url) as conn:
        for offset in range(-2, 8):
            assert len(names(conn, TODAY + timedelta(days=offset))) == 4
        assert partitions.ensure(conn) == []


@pytest.mark.parametrize("off_s", [-86_400.0, 6 * 86_400.0])
async def test_an_event_of_a_web_process_with_a_wrong_clock_has_its_partition(settings: Settings, off_s: float) -> None:
    async with open_shop(settings, clock_off_s=off_s) as shop:
        accepted(await shop.accept(shop.event()))


async def test_a_clock_that_is_years_off_is_corrected_by_postgres(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = time.time
    monkeypatch.setattr(time, "time", lambda: really() + 10 * 365 * 86_400)
    async with open_shop(settings) as shop:
        (receipt,) = await shop.accept(shop.event())
    assert isinstance(receipt, Accepted)
    assert abs((receipt.id.int >> 80) / 1000 - really()) < 30


def test_nobody_waits_while_partitions_are_made_beside_an_open_reader(database_url: str) -> None:
    later = TODAY + timedelta(days=8)
    with connect(database_url) as conn, psycopg.connect(database_url) as reader, connect(database_url) as intake:
        for table in ("events", "history", "attempts", "fanouts"):
            reader.execute(f"SELECT count(*) FROM {table}")
        began = time.monotonic()
        maker = threading.Thread(target=partitions.ensure, args=(conn,), kwargs={"now": later})
        maker.start()
        while maker.is_alive():
            insert_event(intake, TODAY)
        maker.join()
        assert time.monotonic() - began < 2.0
        assert len(names(conn, later)) == 4


def insert_event(conn: Connection[TupleRow], at: datetime) -> None:
    id = floor_at(at.timestamp() + time.monotonic() % 1000)
    conn.execute(
        """INSERT INTO events (id, tenant_id, payload, content_type, priority)
           VALUES (%s, %s, '', 'x/x', 5) ON CONFLICT DO NOTHING""",
        (id, id),
    )


def test_what_is_old_is_retired_but_nothing_that_waits_can_need(database_url: str) -> None:
    with connect(database_url) as conn:
        partitions.ensure(conn, now=OLD)
        event, delivery = floor_at(OLD.timestamp()), floor_at((OLD + timedelta(days=3)).timestamp())
        conn.execute(
            """INSERT INTO live (id, tenant_id, event_id, endpoint_id, tier, due_at)
               VALUES (%(delivery)s, %(event)s, %(event)s, %(event)s, 1, now() + interval '1 day')""",
            {"event": event, "delivery": delivery},
        )
        dropped = partitions.retire(conn, keep_days=30)
        assert {name[-8:] for name in dropped} == {f"{OLD - timedelta(days=days):%Y%m%d}" for days in (1, 2)}
        assert len(names(conn, OLD)) == 4
        conn.execute("DELETE FROM live")
        conn.execute("INSERT INTO scheduled VALUES (%s, %s, now())", (delivery, event))
        partitions.retire(conn, keep_days=30)
        assert not names(conn, OLD)
        assert len(names(conn, OLD + timedelta(days=3))) == 4
        conn.execute("DELETE FROM scheduled")
        partitions.retire(conn, keep_days=30)
        assert not names(conn, OLD + timedelta(days=7))
        assert len(names(conn, TODAY - timedelta(days=2))) == 4


def test_what_died_lately_can_be_seen_for_some_days_however_old_it_is(database_url: str) -> None:
    with connect(database_url) as conn:
        partitions.ensure(conn, now=OLD)
        event, delivery = floor_at(OLD.timestamp()), floor_at((OLD + timedelta(days=3)).timestamp())
        conn.execute(
            """INSERT INTO dead_letters (id, tenant_id, endpoint_id, event_id, reason, died_at)
               VALUES (%s, %s, %s, %s, 'expired', now() - interval '6 days')""",
            (delivery, event, event, event),
        )
        partitions.retire(conn, keep_days=30)
        assert len(names(conn, OLD)) == 4
        conn.execute("UPDATE dead_letters SET died_at = now() - interval '8 days'")
        partitions.retire(conn, keep_days=30)
        assert not names(conn, OLD + timedelta(days=7))


def test_a_reader_puts_retirement_off_and_holds_up_nobody(database_url: str) -> None:
    with connect(database_url) as conn, psycopg.connect(database_url) as reader, connect(database_url) as intake:
        partitions.ensure(conn, now=OLD)
        reader.execute("SELECT count(*) FROM history")
        began = time.monotonic()
        retiring = threading.Thread(target=partitions.retire, args=(conn,), kwargs={"keep_days": 30})
        retiring.start()
        while retiring.is_alive():
            insert_event(intake, TODAY)
            assert time.monotonic() - began < 8.0, "retirement waits for a reader, and the clock with it"
        assert not [name for name in names(conn, OLD) if name.startswith("events")]
        reader.rollback()
        partitions.retire(conn, keep_days=30)
        assert not names(conn, OLD)
        pending = conn.execute("SELECT count(*) FROM pg_inherits WHERE inhdetachpending").fetchone()
        assert pending == (0,)
