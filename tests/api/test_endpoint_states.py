"""Pausing, resuming and disabling by API: what is answered, and what holds then."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from relay.db import Conn
from relay.settings import Settings
from tests.api.conftest import Api, make_key
from tests.api.test_endpoints import DELETE, make
from tests.delivery.crew import rows
from tests.rows import insert_waiting

PAUSE = "mutation($id: ID!) { pauseEndpoint(id: $id) { id status } }"
RESUME = "mutation($id: ID!, $rate: Int) { resumeEndpoint(id: $id, ratePerSec: $rate) { id status } }"
UPDATE = """mutation($id: ID!, $input: UpdateEndpointInput!) { updateEndpoint(id: $id, input: $input) {
    status description maxRetries } }"""


async def insert(conn: Conn, endpoint: str, count: int) -> None:
    ((tenant,),) = await rows(conn, "SELECT id FROM tenants")
    assert isinstance(tenant, UUID)
    await insert_waiting(conn, tenant, UUID(endpoint), count)


async def update(api: Api, id: str, **input: Any) -> dict[str, Any]:
    return (await api.data(UPDATE, id=id, input=input))["updateEndpoint"]


async def test_an_endpoint_is_paused_and_resumed_at_a_rate(api: Api, conn: Conn) -> None:
    id = await make(api)
    for _ in range(2):
        assert (await api.data(PAUSE, id=id))["pauseEndpoint"] == {"id": id, "status": "PAUSED"}
    assert (await api.data("{ endpoints(status: PAUSED) { nodes { id } } }"))["endpoints"]["nodes"] == [{"id": id}]
    assert (await api.data(RESUME, id=id, rate=50))["resumeEndpoint"] == {"id": id, "status": "ACTIVE"}
    assert await rows(conn, "SELECT paused, pace_per_sec FROM lanes") == [(False, 50)]
    await api.data(RESUME, id=id)
    assert await rows(conn, "SELECT paused, pace_per_sec, paced_at FROM lanes") == [(False, None, None)]


@pytest.mark.parametrize("rate", [0, 10_001])
async def test_a_rate_out_of_bounds_is_invalid_and_changes_nothing(api: Api, rate: int) -> None:
    id = await make(api)
    await api.data(PAUSE, id=id)
    assert await api.error(RESUME, id=id, rate=rate) == ("INVALID", "ratePerSec")
    assert (await api.data("query($id: ID!) { endpoint(id: $id) { status } }", id=id))["endpoint"]["status"] == "PAUSED"


async def test_a_disabled_endpoint_is_enabled_by_a_resume_and_cannot_be_paused(api: Api, conn: Conn) -> None:
    id = await make(api)
    await insert(conn, id, 3)
    assert (await update(api, id, status="DISABLED"))["status"] == "DISABLED"
    assert await rows(conn, "SELECT disabled_reason FROM endpoints") == [("cancelled_by_user",)]
    query = "{ deliveries(filter: {status: DEAD, settled: false}) { nodes { reason } } }"
    assert (await api.data(query))["deliveries"]["nodes"] == 3 * [{"reason": "ENDPOINT_DISABLED"}]
    assert await api.error(PAUSE, id=id) == ("CONFLICT", None)
    assert await api.error(UPDATE, id=id, input={"status": "PAUSED", "maxRetries": 1}) == ("CONFLICT", None)
    assert (await update(api, id, status="DISABLED", description="x")) == {
        "status": "DISABLED",
        "description": "x",
        "maxRetries": 10,
    }
    assert (await api.data(RESUME, id=id))["resumeEndpoint"]["status"] == "ACTIVE"


async def test_status_and_other_fields_change_together(api: Api) -> None:
    id = await make(api)
    assert await update(api, id, status="PAUSED", maxRetries=2) == {
        "status": "PAUSED",
        "description": None,
        "maxRetries": 2,
    }
    assert (await update(api, id, description="held"))["status"] == "PAUSED"
    assert (await update(api, id, status="ACTIVE"))["status"] == "ACTIVE"
    await update(api, id, status="PAUSED")
    assert (await update(api, id, status=None))["status"] == "ACTIVE", "null is the default"
    assert await api.error(UPDATE, id=id, input={"status": "PAUSED", "maxRetries": 999}) == ("INVALID", "maxRetries")
    assert (await update(api, id))["status"] == "ACTIVE"


async def test_more_than_one_request_can_end_waits_for_workers_when_an_endpoint_is_deleted(
    api: Api, conn: Conn
) -> None:
    id = await make(api)
    await insert(conn, id, 5500)
    await api.data(PAUSE, id=id)
    assert (await api.data(DELETE, id=id))["deleteEndpoint"] is True
    assert await rows(conn, "SELECT state, reason, count(*) FROM history GROUP BY 1, 2") == [
        ("cancelled", "endpoint_deleted", 5000)
    ]
    assert await rows(conn, "SELECT count(*) FROM live") == [(500,)]
    assert await rows(conn, "SELECT paused, ready_at <= now() FROM lanes") == [(False, True)]


async def test_nobody_elses_endpoint_can_be_paused_or_resumed(locked: Api, conn: Conn, settings: Settings) -> None:
    mine = Api(locked.conductor, await make_key(conn, settings, client="mine"))
    other = Api(locked.conductor, await make_key(conn, settings, client="other"))
    id = await make(mine)
    for unknown in (id, "01890000-0000-7000-8000-000000000000", "nonsense"):
        for query in (PAUSE, RESUME):
            assert (await other.error(query, id=unknown))[0] == "NOT_FOUND"
        assert (await other.error(UPDATE, id=unknown, input={"status": "DISABLED"}))[0] == "NOT_FOUND"
    assert (await mine.data(PAUSE, id=id))["pauseEndpoint"]["status"] == "PAUSED"
