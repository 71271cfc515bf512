"""Connections (GraphQL Cursor Connections): a page of a list, with the shortcut `nodes` and a count for who asks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar
from uuid import UUID

import strawberry

from relay import paging
from relay.db import Conn, Database

T = TypeVar("T")


class _Record(Protocol):
    @property
    def id(self) -> UUID: ...


R = TypeVar("R", bound=_Record)
Counter = Callable[[], Awaitable[int | None]]


@strawberry.type
class PageInfo:
    """Whether there is more, and the cursors of the first and last item."""

    has_next_page: bool
    has_previous_page: bool
    start_cursor: str | None
    end_cursor: str | None


@strawberry.type
class Edge(Generic[T]):
    """One item and the cursor behind it."""

    node: T
    cursor: str


@strawberry.type
class Connection(Generic[T]):
    """One page of a list, newest first."""

    edges: list[Edge[T]]
    nodes: list[T]
    page_info: PageInfo
    counter: strawberry.Private[Counter]

    @strawberry.field(description="Exact up to 10 000, null beyond; worked out only when asked for.")
    async def total_count(self) -> int | None:
        """Count the whole list."""
        return await self.counter()


def connect(page: paging.Page[R], *, node: Callable[[R], T], counter: Counter) -> Connection[T]:
    """Make a connection of a page of records, each shown by `node`."""
    nodes = [node(record) for record in page.items]
    cursors = [paging.encode_cursor(record.id) for record in page.items]
    return Connection(
        edges=[Edge(node=shown, cursor=cursor) for shown, cursor in zip(nodes, cursors, strict=True)],
        nodes=nodes,
        page_info=PageInfo(
            has_next_page=page.has_next,
            has_previous_page=page.has_previous,
            start_cursor=cursors[0] if cursors else None,
            end_cursor=cursors[-1] if cursors else None,
        ),
        counter=counter,
    )


def first_and_after(first: int | None, after: str | None) -> tuple[int, UUID | None]:
    """Check a list's arguments; Invalid outside 1..100 and for a cursor that no page gave."""
    size = paging.check_first(20 if first is None else first)
    return size, paging.decode_cursor(after) if after else None


async def listed(
    db: Database,
    at: tuple[int, UUID | None],
    *,
    page: Callable[[Conn, int, UUID | None], Awaitable[paging.Page[R]]],
    count: Callable[[Conn], Awaitable[int | None]],
    node: Callable[[R], T],
) -> Connection[T]:
    """Read a page at the place that `first_and_after` gave, and make a connection of it; `count` only when asked for."""
    async with db.connection() as conn:
        found = await page(conn, *at)

    async def counted() -> int | None:
        async with db.connection() as conn:
            return await count(conn)

    return connect(found, node=node, counter=counted)
