"""Following the time of Postgres: ids are made by it, whatever the clock of this machine says."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from relay.db import Database
from relay.ids import PostgresTime
from relay.tasks import every
from relay.vitals import HEALTH_S

_CLOCK_CHECK_S = 30.0


async def follow(db: Database, postgres_time: PostgresTime) -> None:
    """Measure the time of Postgres every 30 s, for ever."""

    async def measure() -> None:
        async with db.connection() as conn:
            before = time.monotonic()
            row = await (await conn.execute("SELECT extract(epoch FROM clock_timestamp())::float8")).fetchone()
            assert row is not None
            postgres_time.measured(row[0], at=(before + time.monotonic()) / 2)

    await every(_CLOCK_CHECK_S, measure)


async def until_known(postgres_time: PostgresTime) -> None:
    """Wait for the first measurement, but for 2 s at most: Postgres may be away."""
    with suppress(TimeoutError):
        async with asyncio.timeout(HEALTH_S):
            await postgres_time.known.wait()
