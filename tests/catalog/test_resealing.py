"""A new SIGNING_KEY: every table with sealed columns is known, and moving them is safe to kill, repeat and overtake."""

from __future__ import annotations

import asyncio

from relay.catalog import secrets
from relay.catalog.resealing import SEALED, Standing, reseal, standings
from relay.catalog.secrets import Vault
from relay.db import Conn, Database
from relay.delivery.destinations import Destinations
from relay.delivery.signing import new_secret
from relay.settings import Settings
from tests.rows import VAULT as OLD
from tests.rows import make_world

NEW_KEY, OLD_KEY = "a new signing key that only tests use", "a signing key that only tests use"
NEW = Vault(NEW_KEY, previous=OLD_KEY)


async def test_the_registry_is_what_the_catalog_of_postgres_says(conn: Conn) -> None:
    rows = await conn.execute(
        """SELECT c.table_name::text, array_agg(c.column_name::text ORDER BY c.column_name) FROM information_schema.columns c
           JOIN information_schema.tables t USING (table_schema, table_name)
           WHERE c.table_schema = 'public' AND t.table_type = 'BASE TABLE' AND c.column_name IN ('sealed', 'key_id')
           GROUP BY 1"""
    )
    assert dict(await rows.fetchall()) == {table.name: ["key_id", "sealed"] for table in SEALED}
    for table in SEALED:
        rows = await conn.execute(
            """SELECT array_agg(a.attname::text ORDER BY array_position(i.indkey::int2[], a.attnum)) FROM pg_index i
               JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)
               WHERE i.indrelid = %s::regclass AND i.indisprimary""",
            (table.name,),
        )
        assert (await rows.fetchall())[0][0] == list(table.key)


async def test_all_is_moved_in_batches_and_only_the_new_key_opens_it_then(conn: Conn, settings: Settings) -> None:
    world = await make_world(conn)
    owners = [world.ids() for _ in range(25)]
    texts = {owner: new_secret() for owner in owners}
    for owner in owners:
        await secrets.store(conn, tenant_id=world.tenant_id, owner_id=owner, secret=texts[owner], vault=OLD)
    lost = world.ids()
    await secrets.store(conn, tenant_id=world.tenant_id, owner_id=lost, secret=new_secret(), vault=Vault("l" * 32))
    before, *_ = await standings(conn, vault=NEW)
    assert (before.current, before.unknown) == (0, 1)
    db = Database(settings, connections=2)
    await db.open()
    try:
        halfway = reseal(db, vault=NEW, batch=10)
        assert (await anext(halfway)).moved == 10
        await halfway.aclose()
        assert (await standings(conn, vault=NEW))[0].current == 10
        done = [one async for one in reseal(db, vault=NEW, batch=10)]
        assert sum(one.moved for one in done) == before.previous - 10
        assert sum(one.unreadable for one in done) == 1
        assert [one.moved async for one in reseal(db, vault=NEW, batch=10)] == [0]
    finally:
        await db.close()
    assert (await standings(conn, vault=NEW))[0] == Standing("secrets", before.previous, 0, 1)
    for owner, sealed in (await secrets.current_and_previous(conn, owners)).items():
        assert Vault(NEW_KEY).open(sealed[0], owner=owner) == texts[owner]


async def test_a_secret_that_changes_meanwhile_is_the_changed_one(conn: Conn, settings: Settings) -> None:
    world = await make_world(conn)
    db = Database(settings, connections=4)
    await db.open()
    latest = ""

    async def change_often() -> None:
        nonlocal latest
        for vault in [OLD, NEW] * 10:
            latest = new_secret()
            async with db.transaction() as other:
                await secrets.rotate(
                    other,
                    tenant_id=world.tenant_id,
                    owner_id=world.endpoint_id,
                    secret=latest,
                    vault=vault,
                    overlap_s=60,
                )

    async def move_often() -> None:
        for _ in range(10):
            async for _ in reseal(db, vault=NEW, batch=1):
                pass

    try:
        await asyncio.gather(change_often(), move_often())
        async for _ in reseal(db, vault=NEW):
            pass
    finally:
        await db.close()
    found = (await secrets.current_and_previous(conn, [world.endpoint_id]))[world.endpoint_id]
    opened = [Vault(NEW_KEY).open(sealed, owner=world.endpoint_id) for sealed in found]
    assert opened[0] == latest
    assert len(opened) == 2


async def test_a_worker_with_both_keys_signs_whatever_the_key_and_names_the_settings_otherwise(conn: Conn) -> None:
    world = await make_world(conn)
    assert (await Destinations(NEW).get(conn, world.endpoint_id)).secrets
    assert (await Destinations(Vault(OLD_KEY, previous=NEW_KEY)).get(conn, world.endpoint_id)).secrets
    unreadable = (await Destinations(Vault(NEW_KEY)).get(conn, world.endpoint_id)).unreadable
    assert unreadable is not None
    assert "neither SIGNING_KEY nor SIGNING_KEY_PREVIOUS" in unreadable


def test_a_vault_knows_its_keys() -> None:
    assert NEW.key_ids == [Vault(NEW_KEY).key_id, OLD.key_id]
