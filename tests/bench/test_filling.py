"""What the benchmark stores by SQL is what Relay would have stored: its own check of the ledger finds nothing wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg

from bench.filling import Stored, fill, fill_history, fill_minutes
from relay.db import Conn
from relay.settings import Settings
from relay.verify.ledger import verify
from tests.rows import make_world

COUNT = 1_000
SPAN = timedelta(days=6)


async def test_what_is_filled_is_whole_and_lies_in_the_partitions_of_several_days(
    conn: Conn, database_url: str, settings: Settings
) -> None:
    world = await make_world(conn)
    others = [str(world.endpoint_id), str(await world.endpoint("*"))]
    fill(database_url, Stored(others, 10, SPAN))
    fill(database_url, Stored(others, COUNT, SPAN, first=11))
    found = await verify(settings, since=datetime.now(UTC) - timedelta(days=20))
    assert not [one for one in found.values() if one.count]
    with psycopg.connect(database_url) as reader:
        days = reader.execute("SELECT tableoid::regclass, count(*) FROM history GROUP BY 1").fetchall()
        shares = reader.execute("SELECT count(*) FROM history GROUP BY endpoint_id ORDER BY 1").fetchall()
        dead = reader.execute("SELECT count(*) FROM dead_letters JOIN attempts ON delivery_id = id AND status = 410")
        assert dead.fetchall() == [(COUNT // 100,)]
    assert len(days) >= SPAN.days
    assert sum(count for _, count in days) == COUNT + 10
    assert all(count > COUNT / 3 for (count,) in shares)


async def test_history_alone_is_filled_with_nothing_beside_it(conn: Conn, database_url: str) -> None:
    world = await make_world(conn)
    fill_history(database_url, Stored([str(world.endpoint_id)], COUNT, timedelta(hours=20)))
    with psycopg.connect(database_url) as reader:
        counts = reader.execute("SELECT (SELECT count(*) FROM history), (SELECT count(*) FROM attempts)").fetchall()
    assert counts == [(COUNT, 0)]


async def test_a_minute_that_relay_has_summed_stays_as_it_is(conn: Conn, database_url: str) -> None:
    """A roll-up may have come first: it sums the last minutes every ten seconds."""
    endpoint = str((await make_world(conn)).endpoint_id)
    fill_minutes(database_url, endpoint, count=1_200)
    await conn.execute("UPDATE stats SET created = 7")
    fill_minutes(database_url, endpoint, count=2_400)
    kept = await conn.execute("SELECT count(*) FILTER (WHERE created = 7), count(*) FROM stats WHERE grain = 'minute'")
    assert await kept.fetchall() in ([(1_199, 1_199)], [(1_199, 1_200)])  # a minute may begin in between
