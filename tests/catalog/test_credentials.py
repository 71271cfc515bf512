"""Sealed rows open for their own endpoint and kind only, and what reads them never prints them."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from relay.catalog import credentials, endpoints
from relay.catalog.endpoints import EndpointChange, EndpointSpec
from relay.catalog.resealing import reseal
from relay.catalog.secrets import Vault
from relay.db import Conn, Database
from relay.delivery.destinations import Destinations
from relay.settings import Settings
from tests.delivery.test_request import DELIVERY
from tests.rows import GUARD, VAULT, World, make_world, new_id

SIGNING_KEY = "a signing key that only tests use"
GIVEN = {
    "secret_headers": {"X-Code": "top-s3cret"},
    "auth": {"oauth2": {"token_url": "https://login.example/", "client_id": "shop", "client_secret": "top-s3cret"}},
}


@pytest.fixture
async def world(conn: Conn) -> World:
    return await make_world(conn)


async def authorized(world: World) -> UUID:
    spec = EndpointSpec.model_validate({"url": "http://127.0.0.1:9000/", "event_types": ["*"], **GIVEN})
    assert "s3cret" not in repr(spec)
    made, _ = await endpoints.create(world.conn, world.tenant_id, spec, id=new_id(), vault=VAULT, guard=GUARD)
    return made.id


async def test_a_row_is_of_no_use_as_another_endpoints_or_kinds_or_under_another_key(world: World) -> None:
    id = await authorized(world)
    other = await world.endpoint("*")
    opened = (await credentials.opened(world.conn, {id: 1, other: 1}, VAULT, {}))[id]
    assert opened.headers == (("X-Code", "top-s3cret"),)
    assert opened.grant is not None
    assert opened.grant.client_secret == "top-s3cret"
    assert "s3cret" not in repr(opened)
    assert await unreadable(world, id, Vault("another key"))
    await world.conn.execute("UPDATE credentials SET endpoint_id = %s WHERE kind = 'headers'", (other,))
    assert await unreadable(world, other, VAULT)
    await world.conn.execute("DELETE FROM credentials WHERE kind = 'headers'")
    await world.conn.execute("UPDATE credentials SET kind = 'headers'")
    assert await unreadable(world, id, VAULT)


async def unreadable(world: World, id: UUID, vault: Vault) -> bool:
    """Whether nothing of an endpoint's credentials opens, and a sentence says why."""
    why: dict[UUID, str] = {}
    found = await credentials.opened(world.conn, {id: 1}, vault, why)
    return id not in found and why.keys() == {id}


async def test_another_client_sees_nothing_of_them(world: World) -> None:
    id = await authorized(world)
    assert (await credentials.shown(world.conn, world.tenant_id, [id]))[id].header_names == ("X-Code",)
    assert await credentials.shown(world.conn, new_id(), [id]) == {}


async def test_a_worker_sends_with_what_is_there_since_the_endpoints_version(world: World) -> None:
    id, destinations = await authorized(world), Destinations(VAULT)

    async def read(version: int) -> credentials.Credentials | None:
        claim = replace(DELIVERY, endpoint_id=id, endpoint_version=version)
        return (await destinations.of(world.conn, [claim]))[id].credentials

    first = await read(1)
    assert first is not None
    assert first.names() == {"x-code", "authorization"}
    change = EndpointChange(auth=None, secret_headers=None)
    changed = await endpoints.update(world.conn, world.tenant_id, id, change, vault=VAULT, guard=GUARD)
    assert await read(1) is first
    assert await read(changed.version) is None


async def test_they_move_to_a_new_signing_key(world: World, settings: Settings) -> None:
    id, new = await authorized(world), Vault("another key", previous=SIGNING_KEY)
    db = Database(settings, connections=2)
    await db.open()
    try:
        moved = {one.table: one.moved async for one in reseal(db, vault=new)}
    finally:
        await db.close()
    assert moved["credentials"] == 2
    opened = (await credentials.opened(world.conn, {id: 1}, Vault("another key"), {}))[id]
    assert opened.headers == (("X-Code", "top-s3cret"),)
