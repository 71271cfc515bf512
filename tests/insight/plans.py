"""How Postgres carries out what is asked: the plan of each statement of a question."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from psycopg import sql
from psycopg.abc import Params, QueryNoTemplate

from relay.db import Conn


class Asked:
    """A connection that remembers what it was asked."""

    def __init__(self, conn: Conn) -> None:
        self.conn = conn
        self.statements: list[tuple[QueryNoTemplate, Params | None]] = []

    async def execute(self, query: QueryNoTemplate, params: Params | None = None) -> object:
        self.statements.append((query, params))
        return await self.conn.execute(query, params)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


async def explained(conn: Conn, query: QueryNoTemplate, params: Params | None) -> dict[str, Any]:
    """Carry a statement out; return its plan and what it read."""
    text = query if isinstance(query, sql.Composable) else sql.SQL(cast("Any", query))
    rows = await conn.execute(sql.SQL("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ") + text, params)
    return (await rows.fetchall())[0][0][0]["Plan"]
