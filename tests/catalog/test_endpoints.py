from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from relay.catalog import endpoints, secrets
from relay.catalog.endpoints import EndpointChange, EndpointSpec, EndpointStatus
from relay.catalog.policies import FIFOHeadPolicy
from relay.catalog.subscribers import Subscriber, subscriptions
from relay.db import Conn
from relay.delivery.outcomes import Reason
from relay.errors import Conflict, Invalid, NotFound
from relay.paging import decode_cursor, encode_cursor
from relay.tenancy import tenants
from tests.rows import GUARD, VAULT, World, make_world, new_id

URL = "http://127.0.0.1:9000/hook"


@pytest.fixture
async def world(conn: Conn) -> World:
    return await make_world(conn)


async def config_version(world: World) -> int:
    return (await tenants.get(world.conn, world.tenant_id)).config_version


async def test_a_new_endpoint_has_a_secret_a_lane_and_is_seen_by_caches(world: World) -> None:
    before = await config_version(world)
    spec = EndpointSpec(url=URL, event_types=["order.*"], custom_headers={"A": "b"})
    made, secret = await endpoints.create(world.conn, world.tenant_id, spec, id=new_id(), vault=VAULT, guard=GUARD)
    assert (made.url, made.event_types, made.custom_headers, made.status) == (
        URL,
        ["order.*"],
        {"A": "b"},
        EndpointStatus.ACTIVE,
    )
    assert await config_version(world) == before + 1
    sealed = (await secrets.current_and_previous(world.conn, [made.id]))[made.id]
    assert [VAULT.open(one, owner=made.id) for one in sealed] == [secret]
    lanes = await world.conn.execute("SELECT key, tier FROM lanes WHERE endpoint_id = %s", (made.id,))
    assert await lanes.fetchall() == [("", 1)]


async def test_a_forbidden_address_makes_nothing(world: World) -> None:
    with pytest.raises(Invalid) as refused:
        await endpoints.create(
            world.conn,
            world.tenant_id,
            EndpointSpec(url="http://10.0.0.1/", event_types=["*"]),
            id=new_id(),
            vault=VAULT,
            guard=GUARD,
        )
    assert refused.value.field == "url"
    assert await endpoints.count(world.conn, world.tenant_id) == 1


async def test_a_change_raises_the_version_and_keeps_what_it_does_not_name(world: World) -> None:
    before = await endpoints.get(world.conn, world.tenant_id, world.endpoint_id)
    seen = await config_version(world)
    after = await endpoints.update(
        world.conn, world.tenant_id, before.id, EndpointChange(retry_schedule=[5]), vault=VAULT, guard=GUARD
    )
    assert (after.retry_schedule, after.version) == ([5], before.version + 1)
    assert (after.url, after.event_types, after.max_retries) == (before.url, before.event_types, before.max_retries)
    assert await config_version(world) == seen + 1


async def test_every_field_of_the_delivery_policy_is_kept_as_it_was_given(world: World) -> None:
    policy: dict[str, Any] = {
        "terminal_status_codes": [404, 422],
        "rate_limit_per_sec": 50,
        "circuit_threshold": 3,
        "circuit_reset_ms": 100,
        "fifo": True,
        "fifo_partition_key": "$.customer.id",
        "fifo_on_dead": FIFOHeadPolicy.BLOCK,
    }
    spec = EndpointSpec(url=URL, event_types=["*"], **policy)
    made, _ = await endpoints.create(world.conn, world.tenant_id, spec, id=new_id(), vault=VAULT, guard=GUARD)
    changed = await endpoints.update(
        world.conn, world.tenant_id, world.endpoint_id, EndpointChange(**policy), vault=VAULT, guard=GUARD
    )
    for one in (made, changed):
        assert {name: getattr(one, name) for name in policy} == policy


async def ordered_delivery(world: World, endpoint_id: UUID) -> UUID:
    """A delivery that waits in a FIFO lane."""
    id = await world.waiting(await world.event(), endpoint_id=endpoint_id)
    await world.conn.execute("UPDATE live SET lane = 'fifo:a', seq = 1 WHERE id = %s", (id,))
    return id


@pytest.mark.parametrize(
    ("change", "field"), [({"fifo": False}, "fifo"), ({"fifo_partition_key": "$.b"}, "fifoPartitionKey")]
)
async def test_an_order_in_use_cannot_be_torn_apart_until_it_is_drained(
    world: World, change: dict[str, Any], field: str
) -> None:
    id = world.endpoint_id
    fifo = EndpointChange(fifo=True, fifo_partition_key="$.a")
    await endpoints.update(world.conn, world.tenant_id, id, fifo, vault=VAULT, guard=GUARD)
    waiting = await ordered_delivery(world, id)
    with pytest.raises(Conflict, match="drain") as refused:
        await endpoints.update(world.conn, world.tenant_id, id, EndpointChange(**change), vault=VAULT, guard=GUARD)
    assert refused.value.field == field
    harmless = EndpointChange(fifo=True, fifo_partition_key="$.a", fifo_on_dead=FIFOHeadPolicy.BLOCK, description="x")
    assert (
        await endpoints.update(world.conn, world.tenant_id, id, harmless, vault=VAULT, guard=GUARD)
    ).description == "x"
    await world.conn.execute("DELETE FROM live WHERE id = %s", (waiting,))
    await endpoints.update(world.conn, world.tenant_id, id, EndpointChange(**change), vault=VAULT, guard=GUARD)


async def test_fifo_can_be_turned_on_while_unordered_deliveries_wait(world: World) -> None:
    await world.waiting(await world.event())
    change = EndpointChange(fifo=True, fifo_partition_key="$.a")
    assert (
        await endpoints.update(world.conn, world.tenant_id, world.endpoint_id, change, vault=VAULT, guard=GUARD)
    ).fifo


async def test_fan_out_is_told_how_an_endpoint_wants_its_order(world: World) -> None:
    spec = EndpointSpec(url=URL, event_types=["order.*"], fifo=True, fifo_partition_key="$.a")
    made, _ = await endpoints.create(world.conn, world.tenant_id, spec, id=new_id(), vault=VAULT, guard=GUARD)
    _, found = (await subscriptions(world.conn, [world.tenant_id]))[world.tenant_id]
    assert found == [
        Subscriber(world.endpoint_id, ["*"], fifo=False, partition_key=None),
        Subscriber(made.id, ["order.*"], fifo=True, partition_key="$.a"),
    ]


async def test_a_deleted_endpoint_is_gone_from_everywhere_but_history(world: World) -> None:
    await endpoints.delete(world.conn, world.tenant_id, world.endpoint_id)
    assert await endpoints.find(world.conn, world.tenant_id, world.endpoint_id) is None
    assert (await endpoints.list_(world.conn, world.tenant_id, first=10)).items == []
    assert (await subscriptions(world.conn, [world.tenant_id]))[world.tenant_id][1] == []
    kept = (await endpoints.find_many(world.conn, world.tenant_id, [world.endpoint_id]))[world.endpoint_id]
    assert kept.deleted_at is not None
    with pytest.raises(NotFound):
        await endpoints.delete(world.conn, world.tenant_id, world.endpoint_id)


async def test_another_tenant_sees_and_changes_nothing(world: World) -> None:
    other = (await make_world(world.conn, "other")).tenant_id
    assert await endpoints.find(world.conn, other, world.endpoint_id) is None
    assert await endpoints.find_many(world.conn, other, [world.endpoint_id]) == {}
    with pytest.raises(NotFound):
        await endpoints.update(world.conn, other, world.endpoint_id, EndpointChange(), vault=VAULT, guard=GUARD)
    with pytest.raises(NotFound):
        await endpoints.delete(world.conn, other, world.endpoint_id)


async def test_a_list_is_paged_newest_first_without_gaps(world: World) -> None:
    made = [world.endpoint_id] + [await world.endpoint("*") for _ in range(4)]
    seen = []
    after = None
    while True:
        page = await endpoints.list_(world.conn, world.tenant_id, first=2, after=after)
        seen += [one.id for one in page.items]
        assert page.has_previous is (after is not None)
        if not page.has_next:
            break
        after = decode_cursor(encode_cursor(page.items[-1].id))
    assert seen == made[::-1]


async def test_a_paused_and_a_disabled_endpoint_are_listed_by_their_status(world: World) -> None:
    paused, disabled = await world.endpoint("*"), await world.endpoint("*")
    await world.conn.execute("UPDATE lanes SET paused = true WHERE endpoint_id = %s AND key = ''", (paused,))
    await world.conn.execute(
        "UPDATE endpoints SET status = 'disabled', disabled_at = now(), disabled_reason = 'gone' WHERE id = %s",
        (disabled,),
    )
    expected = {
        EndpointStatus.ACTIVE: world.endpoint_id,
        EndpointStatus.PAUSED: paused,
        EndpointStatus.DISABLED: disabled,
    }
    for status, id in expected.items():
        listed = await endpoints.list_(world.conn, world.tenant_id, status=status, first=10)
        assert [(one.id, one.status) for one in listed.items] == [(id, status)]
        assert await endpoints.count(world.conn, world.tenant_id, status=status) == 1
    shown = await endpoints.get(world.conn, world.tenant_id, disabled)
    assert shown.disabled_reason is Reason.GONE
    assert shown.disabled_at is not None
    _, subscribed = (await subscriptions(world.conn, [world.tenant_id]))[world.tenant_id]
    assert {one.id for one in subscribed} == {world.endpoint_id, paused}


async def test_a_tenant_without_endpoints_has_a_version_and_no_subscriptions(conn: Conn) -> None:
    tenant, _ = await tenants.ensure(conn, "empty", vault=VAULT)
    assert await subscriptions(conn, [tenant.id, uuid4()]) == {tenant.id: (1, [])}
