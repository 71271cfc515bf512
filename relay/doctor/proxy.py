"""PgBouncer, or another pooler, between Relay and Postgres: whether there is one, and what it shares.

A pooler answers the connection itself, so the process number it gave then is not that of the Postgres process which
answers a query.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from enum import StrEnum

import psycopg
from psycopg import AsyncConnection

from relay.db import Conn
from relay.postgres import conninfo

_OTHERS = 3


class Mode(StrEnum):
    """What a pooler gives to somebody else between two of what."""

    SESSION = "session"
    TRANSACTION = "transaction"
    STATEMENT = "statement"


async def connect(url: str) -> Conn:
    """Connect as a passing visitor: nothing is prepared, each statement is its own transaction."""
    return await AsyncConnection.connect(
        conninfo(url), autocommit=True, prepare_threshold=None, application_name="relay doctor"
    )


async def through_proxy(conn: Conn) -> bool:
    """Whether somebody stands between."""
    return await _process(conn) != conn.info.backend_pid


async def mode_of(conn: Conn, url: str) -> Mode:
    """What the pooler in between shares, found out by a few transactions that only ask for their process.

    While others hold transactions open, a connection that is not bound to its process is given another one, or one of
    the others has got the process that this one had.
    """
    async with AsyncExitStack() as stack:
        mine = await _process(conn)
        for _ in range(_OTHERS):
            other = await stack.enter_async_context(await connect(url))
            try:
                await other.execute("BEGIN")
            except psycopg.Error:  # refused by the pooler itself: no transaction is longer than a statement
                return Mode.STATEMENT
            if await _process(other) == mine:
                return Mode.TRANSACTION
        return Mode.SESSION if await _process(conn) == mine else Mode.TRANSACTION


async def _process(conn: Conn) -> int:
    row = await (await conn.execute("SELECT pg_backend_pid()")).fetchone()
    assert row is not None
    return row[0]
