"""Partitions that are missing, and those that stay for too long, with what holds them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg

from relay import partitions
from relay.db import Conn
from relay.partitions import Partition
from relay.settings import Settings
from tests.doctor.asking import ask, fails, passes, warns
from tests.rows import make_world

TODAY = datetime.now(UTC)


def make_partitions(database_url: str, day: datetime) -> None:
    """Partitions of another day, as a clock made them then."""
    with psycopg.connect(database_url, autocommit=True) as sync:
        for table in ("events", "history", "fanouts", "attempts"):
            partitions._make(sync, Partition(table, day.date()))


async def test_days_that_are_missing_are_counted(settings: Settings, conn: Conn) -> None:
    passes(await ask(settings, "partitions"), "partitions-ahead", saying="all 4 tables are there for 7 days ahead")
    await conn.execute(f"DROP TABLE attempts_{TODAY + timedelta(days=3):%Y%m%d}".encode())
    fails(await ask(settings, "partitions"), "partitions-ahead", saying="attempts are there 2 days ahead")
    await conn.execute(f"DROP TABLE history_{TODAY:%Y%m%d}".encode())
    fails(await ask(settings, "partitions"), "partitions-ahead", saying="history are there not even today")


async def test_partitions_that_nobody_retires_fail(settings: Settings, database_url: str) -> None:
    passes(await ask(settings, "partitions"), "partitions-pinned")
    make_partitions(database_url, TODAY - timedelta(days=40))
    fails(await ask(settings, "partitions"), "partitions-pinned", saying="4 partitions are older")
    with psycopg.connect(database_url, autocommit=True) as sync:  # as a day that is brought back from the archive
        for partition in partitions.existing(sync):
            if partition.day == (TODAY - timedelta(days=40)).date():
                partitions.stay(sync, partition, until=TODAY + timedelta(days=7))
    passes(await ask(settings, "partitions"), "partitions-pinned")


async def test_what_waits_in_an_old_partition_is_named(settings: Settings, conn: Conn, database_url: str) -> None:
    make_partitions(database_url, TODAY - timedelta(days=40))
    world = await make_world(conn)
    event = await world.event(ago=timedelta(days=40))
    await conn.execute(
        "INSERT INTO scheduled (event_id, tenant_id, due_at) VALUES (%s, %s, now())", (event, world.tenant_id)
    )
    warns(await ask(settings, "partitions"), "partitions-pinned", saying=f"event {event} is scheduled")
    make_partitions(database_url, TODAY - timedelta(days=90))
    fails(await ask(settings, "partitions"), "partitions-pinned", saying="longer than 30 days beyond it")
