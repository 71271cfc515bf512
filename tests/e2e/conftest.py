"""One running system for all end-to-end tests; each test is a client of its own in it, with a receiver of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from uuid import uuid4

import psycopg
import pytest

from relay.catalog.secrets import Vault
from relay.tenancy import api_keys, tenants
from relay.tenancy.scopes import CLIENT_SCOPES
from tests.e2e.client import Client
from tests.e2e.system import System, running_system
from tests.sink import Sink

NewClient = Callable[[], Client]


@pytest.fixture(scope="session")
def system() -> Iterator[System]:
    """Relay with keys asked for, two web processes and two workers."""
    with running_system() as system:
        yield system


async def make_key(system: System) -> str:
    """The key of a new client, made as `relay apikey create` makes it: a process less for each test."""
    async with await psycopg.AsyncConnection.connect(system.database_url, autocommit=True) as conn:
        tenant, _ = await tenants.ensure(conn, f"shop-{uuid4().hex}", vault=Vault(system.signing_key.read_text()))
        return (await api_keys.create(conn, tenant.id, name="test", scopes=CLIENT_SCOPES))[1]


@pytest.fixture
def new_client(system: System) -> Iterator[NewClient]:
    """Makes clients that nobody else is; each has a key with every scope of a client."""
    made: list[Client] = []

    def make() -> Client:
        made.append(Client(system.url, key=asyncio.run(make_key(system))))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
def client(new_client: NewClient) -> Client:
    """A client that nobody else is."""
    return new_client()


@pytest.fixture
def database(system: System) -> Iterator[psycopg.Connection]:
    """The system's database, to count rows or let time pass."""
    with psycopg.connect(system.database_url, autocommit=True) as conn:
        yield conn


@pytest.fixture
def sink() -> Iterator[Sink]:
    """A receiver; `sink.answer` may be replaced by a script."""
    with Sink() as sink:
        yield sink
