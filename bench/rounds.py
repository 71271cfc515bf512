"""Rounds of the clock over many clients with work, on a database of their own beside that of the system under test."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import psycopg

from relay.clock.due import TENANTS_A_ROUND
from relay.db import Conn
from relay.delivery import lanes
from relay.migrate import migrate

_NAME = "relay_bench_rounds"
_LANES_EACH = 2


def rounds_ms(database_url: str, *, tenants: int) -> list[float]:
    """Milliseconds of each round, until every client has had its turn."""
    with _database(database_url) as url:
        migrate(url)
        return asyncio.run(_rounds_ms(url, tenants=tenants))


@contextlib.contextmanager
def _database(server_url: str) -> Iterator[str]:
    with psycopg.connect(server_url, autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {_NAME}")
        try:
            yield urlunsplit(urlsplit(server_url)._replace(path=f"/{_NAME}"))
        finally:
            conn.execute(f"DROP DATABASE {_NAME} WITH (FORCE)")


async def _rounds_ms(url: str, *, tenants: int) -> list[float]:
    taken: list[float] = []
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as conn:
        await conn.execute(
            """INSERT INTO lanes (endpoint_id, key, tenant_id, tier, ready_at)
               SELECT gen_random_uuid(), '', t.id, 1, now() - random() * interval '1 minute'
               FROM (SELECT gen_random_uuid() AS id FROM generate_series(1, %s)) t, generate_series(1, %s)""",
            (tenants, _LANES_EACH),
        )
        after = UUID(int=0)
        for _ in range(tenants // TENANTS_A_ROUND):
            began = time.perf_counter()
            after = await _round(conn, after)
            taken.append((time.perf_counter() - began) * 1000)
    return taken


async def _round(conn: Conn, after: UUID) -> UUID:
    """What the clock does in a round, the messages aside; return the client at which the next one begins."""
    await lanes.promote(conn)
    async with conn.transaction():
        picked = await lanes.pick(conn, tier=1, after=after, limit=TENANTS_A_ROUND)
        await lanes.hand_out(conn, picked)
    return picked[-1][2] if picked else UUID(int=0)
