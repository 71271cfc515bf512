from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from relay.db import Conn
from relay.errors import Invalid, NotFound
from relay.tenancy import api_keys
from relay.tenancy.scopes import Scope
from tests.rows import make_world


async def test_a_key_finds_its_principal(conn: Conn) -> None:
    world = await make_world(conn)
    made, key = await api_keys.create(conn, world.tenant_id, name="till", scopes=[Scope.SEND, Scope.READ])
    assert key.startswith("rly_")
    assert len(key) >= 44
    assert made.prefix == key[:12]
    found = await api_keys.find_principal(conn, key)
    assert found == api_keys.Principal(world.tenant_id, frozenset({Scope.SEND, Scope.READ}), made.id, "till")


async def test_the_key_itself_is_stored_nowhere(conn: Conn) -> None:
    world = await make_world(conn)
    _, key = await api_keys.create(conn, world.tenant_id, name="till", scopes=[Scope.SEND])
    rows = await conn.execute("SELECT k::text FROM api_keys k")
    assert key not in (await rows.fetchall())[0][0]


async def test_unknown_expired_and_revoked_keys_look_the_same(conn: Conn) -> None:
    world = await make_world(conn)
    soon = datetime.now(UTC) + timedelta(hours=1)
    old, expired = await api_keys.create(conn, world.tenant_id, name="old", scopes=[Scope.SEND], expires_at=soon)
    assert await api_keys.find_principal(conn, expired) is not None
    await conn.execute("UPDATE api_keys SET expires_at = now() - interval '1 s' WHERE id = %s", (old.id,))
    made, revoked = await api_keys.create(conn, world.tenant_id, name="gone", scopes=[Scope.SEND])
    assert (await api_keys.revoke(conn, world.tenant_id, made.id)).revoked_at is not None
    for key in ("", "rly_nothing", "\ud800", "a\0b", expired, revoked):
        assert await api_keys.find_principal(conn, key) is None


async def test_a_use_is_noted_to_the_minute(conn: Conn) -> None:
    world = await make_world(conn)
    _, key = await api_keys.create(conn, world.tenant_id, name="till", scopes=[Scope.SEND])
    for _ in range(2):
        await api_keys.find_principal(conn, key)
    used = (await api_keys.list_(conn, world.tenant_id, first=1)).items[0].last_used_at
    assert used is not None
    assert used.second == 0


async def test_a_key_needs_a_scope_and_a_name(conn: Conn) -> None:
    world = await make_world(conn)
    with pytest.raises(Invalid, match="scope"):
        await api_keys.create(conn, world.tenant_id, name="till", scopes=[])
    with pytest.raises(Invalid, match="name"):
        await api_keys.create(conn, world.tenant_id, name="", scopes=[Scope.SEND])


async def test_the_keys_of_another_tenant_cannot_be_seen_or_revoked(conn: Conn) -> None:
    mine, other = await make_world(conn, "mine"), await make_world(conn, "other")
    made, _ = await api_keys.create(conn, mine.tenant_id, name="till", scopes=[Scope.SEND])
    assert (await api_keys.list_(conn, other.tenant_id, first=10)).items == []
    for tenant_id, id in ((other.tenant_id, made.id), (mine.tenant_id, uuid4())):
        with pytest.raises(NotFound):
            await api_keys.revoke(conn, tenant_id, id)
