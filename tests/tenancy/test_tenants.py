from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest
from psycopg import AsyncConnection

from relay.catalog import secrets
from relay.db import Conn
from relay.errors import Invalid, NotFound
from relay.tenancy import tenants
from tests.rows import VAULT, make_world


async def test_ensure_makes_a_tenant_once_and_shows_its_secret_once(conn: Conn) -> None:
    tenant, secret = await tenants.ensure(conn, "acme", vault=VAULT)
    again, hidden = await tenants.ensure(conn, "acme", vault=VAULT)
    assert again == tenant
    assert hidden is None
    sealed = (await secrets.current_and_previous(conn, [tenant.id]))[tenant.id]
    assert [VAULT.open(one, owner=tenant.id) for one in sealed] == [secret]


@pytest.mark.parametrize("name", ["acme", tenants.DEFAULT_NAME])
async def test_two_that_ensure_the_same_tenant_at_once_get_the_same_one(
    conn: Conn, database_url: str, name: str
) -> None:
    async with await AsyncConnection.connect(database_url, autocommit=True) as other:
        found = await asyncio.gather(*(tenants.ensure(c, name, vault=VAULT) for c in (conn, other)))
    assert found[0][0] == found[1][0]
    assert sum(secret is not None for _, secret in found) == 1


async def test_the_default_tenant_has_a_fixed_id(conn: Conn) -> None:
    tenant, _ = await tenants.ensure(conn, tenants.DEFAULT_NAME, vault=VAULT)
    assert tenant.id == tenants.DEFAULT_ID


@pytest.mark.parametrize("name", ["", "x" * 256, "a\nb", "a\0b"])
async def test_a_name_that_is_no_name_is_refused(conn: Conn, name: str) -> None:
    with pytest.raises(Invalid, match="name"):
        await tenants.ensure(conn, name, vault=VAULT)


async def test_an_unknown_tenant_is_not_found(conn: Conn) -> None:
    assert await tenants.find(conn, uuid4()) is None
    with pytest.raises(NotFound):
        await tenants.get(conn, uuid4())


async def test_a_rotated_secret_signs_beside_the_old_one_until_the_overlap_ends(conn: Conn) -> None:
    tenant, old = await tenants.ensure(conn, "acme", vault=VAULT)
    new, _ = await tenants.rotate_secret(conn, tenant.id, vault=VAULT, overlap_s=60)
    sealed = (await secrets.current_and_previous(conn, [tenant.id]))[tenant.id]
    assert [VAULT.open(one, owner=tenant.id) for one in sealed] == [new, old]
    newest, _ = await tenants.rotate_secret(conn, tenant.id, vault=VAULT, overlap_s=0)
    sealed = (await secrets.current_and_previous(conn, [tenant.id]))[tenant.id]
    assert [VAULT.open(one, owner=tenant.id) for one in sealed] == [newest]


async def test_rotation_takes_a_secret_of_ones_own_and_checks_it(conn: Conn) -> None:
    tenant, _ = await tenants.ensure(conn, "acme", vault=VAULT)
    mine = "whsec_" + "QUJD" * 10
    assert (await tenants.rotate_secret(conn, tenant.id, vault=VAULT, secret=mine))[0] == mine
    with pytest.raises(Invalid) as wrong:
        await tenants.rotate_secret(conn, tenant.id, vault=VAULT, secret="mine")
    assert wrong.value.field == "secret"
    with pytest.raises(Invalid) as wrong:
        await tenants.rotate_secret(conn, tenant.id, vault=VAULT, overlap_s=604_801)
    assert wrong.value.field == "overlapSeconds"


async def test_workers_learn_of_a_rotation_by_the_version_of_the_endpoints_that_it_signs(conn: Conn) -> None:
    world = await make_world(conn)
    await conn.execute("UPDATE endpoints SET kind = 'adhoc'")
    await tenants.rotate_secret(conn, world.tenant_id, vault=VAULT)
    rows = await conn.execute("SELECT version FROM endpoints")
    assert await rows.fetchall() == [(2,)]
