from __future__ import annotations

import pytest

from relay.catalog import adhoc, endpoints
from relay.db import Conn
from relay.errors import Invalid
from tests.rows import GUARD, make_world, new_id

URL = "http://127.0.0.1:9000/hook"


async def test_a_url_has_one_hidden_endpoint_per_tenant(conn: Conn) -> None:
    world = await make_world(conn)
    first = await adhoc.ensure(world.conn, world.tenant_id, URL, id=new_id(), guard=GUARD)
    assert await adhoc.ensure(world.conn, world.tenant_id, URL, id=new_id(), guard=GUARD) == first
    other = (await make_world(world.conn, "other")).tenant_id
    assert await adhoc.ensure(world.conn, other, URL, id=new_id(), guard=GUARD) != first
    assert await endpoints.find(world.conn, world.tenant_id, first) is None
    assert (await endpoints.find_many(world.conn, world.tenant_id, [first]))[first].kind == "adhoc"
    assert await endpoints.count(world.conn, world.tenant_id) == 1
    lanes = await world.conn.execute("SELECT count(*) FROM lanes WHERE endpoint_id = %s AND key = ''", (first,))
    assert await lanes.fetchall() == [(1,)]
    with pytest.raises(Invalid) as refused:
        await adhoc.ensure(world.conn, world.tenant_id, "ftp://example.com/", id=new_id(), guard=GUARD)
    assert refused.value.field == "destination"
