"""For commands that work in the database itself: how they find it, and a connection for one piece of work."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, TypeVar
from uuid import UUID

import psycopg

from relay.cli.environment import command_environment, data_dir, with_stand_ins
from relay.db import Conn
from relay.errors import NotFound, Unavailable
from relay.paging import Page
from relay.postgres import conninfo
from relay.settings import SettingsError, read_settings
from relay.tenancy import tenants
from relay.tenancy.tenants import Tenant
from relay.up.development import is_given

# Stand-ins for what is not given: what is in the database needs no queue, and only a new client's secret is sealed.
NO_QUEUE = {"REDIS_URL": "redis://not-needed"}
NOTHING_SEALED = {**NO_QUEUE, "SIGNING_KEY": "not needed where nothing is sealed"}
#: How many items one page of `all_pages` may hold.
PAGE = 100
T = TypeVar("T")


class _Record(Protocol):
    @property
    def id(self) -> UUID: ...


R = TypeVar("R", bound=_Record)


def environment(stand_ins: Mapping[str, str]) -> dict[str, str]:
    """Return the command's environment with these for what is not given; raise SettingsError without a database."""
    found = command_environment()
    if not is_given(found, "DATABASE_URL"):
        raise SettingsError(f"DATABASE_URL is not set, and no `relay up` runs with the data folder {data_dir()}.")
    return with_stand_ins(found, stand_ins)


def on_database(environment: dict[str, str], work: Callable[[Conn], Awaitable[T]]) -> T:
    """Do this work on a connection of its own, and return what it returns."""

    async def connected() -> T:
        url = read_settings(environment).database_url
        async with await psycopg.AsyncConnection.connect(conninfo(url), autocommit=True) as conn:
            return await work(conn)

    try:
        return asyncio.run(connected())
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn) as cause:
        raise Unavailable("The database is older than this Relay; run `relay migrate` first.") from cause


async def all_pages(page: Callable[[UUID | None], Awaitable[Page[R]]]) -> list[R]:
    """Return everything of a list that is read in pages: `page` gets the id after which the next one begins."""
    found, after = list[R](), None
    while True:
        one = await page(after)
        found += one.items
        if not one.has_next:
            return found
        after = one.items[-1].id


async def client_named(conn: Conn, name: str) -> Tenant:
    """Return the client of this name; raise NotFound."""
    tenant = await tenants.find_by_name(conn, name)
    if tenant is None:
        raise NotFound(f"There is no client named {name}.")
    return tenant
