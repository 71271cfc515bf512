"""What a worker knows of an endpoint is what the endpoint says of itself, read anew when it changed."""

from __future__ import annotations

from dataclasses import replace

from relay.catalog import endpoints
from relay.catalog.policies import EndpointChange
from relay.db import Conn
from relay.delivery.destinations import Destination, Destinations
from tests.delivery.test_request import DELIVERY
from tests.rows import GUARD, VAULT, World, make_world


async def read(destinations: Destinations, world: World, *, version: int) -> Destination:
    claim = replace(DELIVERY, endpoint_id=world.endpoint_id, endpoint_version=version)
    return (await destinations.of(world.conn, [claim]))[world.endpoint_id]


async def test_a_destination_has_the_policy_of_its_endpoint_once_its_version_is_claimed(conn: Conn) -> None:
    world, destinations = await make_world(conn), Destinations(VAULT)
    before = await read(destinations, world, version=1)
    change = EndpointChange(
        max_retries=3, retry_backoff_ms=7, retry_backoff_mult=3, retry_backoff_max=70, terminal_status_codes=[422, 404],
        rate_limit_per_sec=50, circuit_threshold=2,
    )  # fmt: skip
    after = await endpoints.update(conn, world.tenant_id, world.endpoint_id, change, vault=VAULT, guard=GUARD)
    assert await read(destinations, world, version=1) == before
    now = await read(destinations, world, version=after.version)
    policy = now.policy
    assert (policy.max_retries, policy.schedule_ms, policy.terminal) == (3, None, {404, 422})
    assert (policy.backoff_ms, policy.backoff_mult, policy.backoff_max_ms) == (7, 3.0, 70)
    assert (now.rate_limit_per_sec, now.circuit_threshold) == (50, 2)
    assert (before.rate_limit_per_sec, before.circuit_threshold, before.policy.terminal) == (0, 5, frozenset())


async def test_a_destination_knows_that_its_endpoint_is_disabled_or_deleted(conn: Conn) -> None:
    world, destinations = await make_world(conn), Destinations(VAULT)
    one = await read(destinations, world, version=1)
    assert (one.disabled, one.deleted) == (False, False)
    await conn.execute(
        """UPDATE endpoints SET status = 'disabled', disabled_reason = 'gone', disabled_at = now(), version = 2
           WHERE id = %s""",
        (world.endpoint_id,),
    )
    one = await read(destinations, world, version=2)
    assert (one.disabled, one.deleted) == (True, False)
    await endpoints.delete(conn, world.tenant_id, world.endpoint_id)
    assert (await read(destinations, world, version=3)).deleted
