"""A gap in the days, as an archived day leaves it: nothing up to it is compared, and all after it still is."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

import psycopg
import pytest

from relay import archive, partitions
from relay.db import Conn, Database
from relay.partitions import Partition
from relay.settings import Settings
from relay.verify.findings import Check
from relay.verify.kept import first_of_run
from tests.ledger import offenders
from tests.rows import make_world

NOW = datetime.now(UTC)
TODAY = NOW.date()
WEEK = timedelta(days=8)


def names(*days_ago: int) -> set[str]:
    return {Partition(table, TODAY - timedelta(days=days)).name for days in days_ago for table in partitions.TABLES}


def noon(days_ago: int) -> datetime:
    return datetime.combine(TODAY - timedelta(days=days_ago), time(12), UTC)


@pytest.mark.parametrize(
    ("there", "first"),
    [
        (names(0, 1, 2), 2),
        (names(0, 1, 3, 4), 1),
        (names(0, 2, 3), 0),
        (names(0, 1, 2) - {Partition("attempts", TODAY - timedelta(days=2)).name}, 1),
        (names(-1, -2), 0),
        (set[str](), 0),
    ],
)
def test_the_run_of_days_ends_at_the_first_gap(there: set[str], first: int) -> None:
    began = datetime.combine(TODAY - timedelta(days=first), datetime.min.time(), UTC)
    assert first_of_run(there, TODAY) == began


async def test_what_lies_beside_an_archived_day_is_no_violation(conn: Conn, settings: Settings) -> None:
    """The first event's attempt was made the day after, on the day that goes; the second's is lost."""
    db = Database(settings, connections=1)
    await db.open()
    world = await make_world(conn)
    with psycopg.connect(settings.database_url, autocommit=True) as sync:
        for days in range(3, 8):
            partitions.ensure(sync, now=NOW - timedelta(days=days))
        for days, attempt_days in ((6, 5), (4, None)):
            ago = NOW - noon(days)
            event = await world.event(ago=ago)
            await world.fanned_out(event, matched=1)
            delivery = await world.finished(event, ago=ago)
            await conn.execute("UPDATE history SET id = %s WHERE id = %s", (event, delivery))
            if attempt_days is not None:
                await world.attempt(event, ago_s=(NOW - noon(attempt_days)).total_seconds())
        both = {Check.DELIVERED: 1, Check.ATTEMPTS: 1}
        assert {check: one.count for check, one in (await offenders(db, since=WEEK)).items()} == both
        archive.put(sync, TODAY - timedelta(days=5))
        assert {check: one.count for check, one in (await offenders(db, since=WEEK)).items()} == both
        archive.put(sync, TODAY - timedelta(days=3))
        assert await offenders(db, since=WEEK) == {}
        archive.restore(sync, TODAY - timedelta(days=3), until=NOW + WEEK)
        archive.put(sync, TODAY - timedelta(days=4))
        assert await offenders(db, since=WEEK) == {}
        for days in (5, 4):
            archive.restore(sync, TODAY - timedelta(days=days), until=NOW + WEEK)
        assert {check: one.count for check, one in (await offenders(db, since=WEEK)).items()} == both
    await db.close()
