"""An endpoint's gate and circuit, as its owner sees them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from falcon.testing import ASGIConductor

from api.app import create_app
from relay.db import Conn
from relay.delivery import gates
from relay.delivery.counters import Counters, Tally
from relay.settings import Settings
from tests.api.conftest import Api
from tests.api.graphql.test_loaders import CREATE, statements

ALL = """{ endpoints { edges { node {
    id circuit { state failures openedAt nextProbeAt } gate { reason until } } } } }"""
CLOSED = {"state": "CLOSED", "failures": 0, "openedAt": None, "nextProbeAt": None}


async def made(api: Api, path: str = "a") -> UUID:
    answer = await api.data(CREATE, i={"url": f"http://127.0.0.1:9999/{path}", "eventTypes": ["*"]})
    return UUID(answer["createEndpoint"]["endpoint"]["id"])


async def shown(api: Api) -> dict[UUID, dict[str, Any]]:
    edges = (await api.data(ALL))["endpoints"]["edges"]
    return {UUID(edge["node"]["id"]): edge["node"] for edge in edges}


@pytest.fixture
async def without_redis(settings: Settings) -> AsyncIterator[Api]:
    away = settings.model_copy(update={"redis_state_url": "redis://127.0.0.1:1/0"})
    async with ASGIConductor(create_app(away)) as conductor:
        yield Api(conductor)


async def test_a_circuit_is_shown_from_its_first_failure_to_its_probe(api: Api, conn: Conn, settings: Settings) -> None:
    endpoint, counters = await made(api), Counters(settings.state_url)
    assert (await shown(api))[endpoint] == {"id": str(endpoint), "circuit": CLOSED, "gate": None}
    await counters.count({(endpoint, 0): Tally(failures=3)})
    await counters.close()
    assert (await shown(api))[endpoint]["circuit"] == {**CLOSED, "failures": 3}
    await gates.open_circuits(conn, [(endpoint, 0)])
    opened = (await shown(api))[endpoint]
    assert (opened["circuit"]["state"], opened["circuit"]["failures"]) == ("OPEN", 5)
    assert opened["circuit"]["openedAt"] < opened["circuit"]["nextProbeAt"]
    assert opened["gate"] == {"reason": "CIRCUIT_OPEN", "until": opened["circuit"]["nextProbeAt"]}
    await conn.execute("UPDATE lanes SET gate_until = now()")
    assert (await shown(api))[endpoint]["circuit"]["state"] == "HALF_OPEN"


async def test_a_pause_and_a_retry_after_are_shown_as_gates(api: Api, conn: Conn) -> None:
    paused, throttled = await made(api, "a"), await made(api, "b")
    await conn.execute("UPDATE lanes SET paused = true WHERE endpoint_id = %s", (paused,))
    await gates.throttle(conn, {throttled: 60})
    found = await shown(api)
    assert found[paused]["gate"] == {"reason": "PAUSED", "until": None}
    assert found[throttled]["gate"]["reason"] == "THROTTLED"
    assert found[throttled]["circuit"] == CLOSED
    await conn.execute("UPDATE lanes SET gate_until = now() WHERE NOT paused")
    assert (await shown(api))[throttled]["gate"] is None


async def test_without_redis_no_failures_are_known_and_all_else_is_shown(without_redis: Api, conn: Conn) -> None:
    closed, opened = await made(without_redis, "a"), await made(without_redis, "b")
    await gates.open_circuits(conn, [(opened, 0)])
    found = await shown(without_redis)
    assert found[closed]["circuit"] == CLOSED
    assert (found[opened]["circuit"]["state"], found[opened]["circuit"]["failures"]) == ("OPEN", 5)


async def test_twenty_endpoints_take_as_many_statements_as_one(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    await made(api, "first")
    with statements(monkeypatch) as for_one:
        await shown(api)
    for n in range(19):
        await made(api, str(n))
    with statements(monkeypatch) as for_twenty:
        assert len(await shown(api)) == 20
    assert len(for_twenty) == len(for_one)
