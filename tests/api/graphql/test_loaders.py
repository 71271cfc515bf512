"""Lists cost the same number of statements however long they are."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest
from psycopg import AsyncConnection

from api.graphql.shared_loads import DataLoader
from relay.db import Conn
from relay.ids import Uuid7
from tests.api.conftest import Api

QUERY = """query($first: Int!) { events(first: $first) { totalCount edges { node {
    id status attempts deliveredAt destination maxAttempts
    deliveryAttempts { id }
    deliveries(first: 10) {
        id status destination maxAttempts priority endpoint { id url stats { successRate } } event { id eventType }
        replayOf { id } replayedBy { id status }
        deliveryAttempts { attemptNumber statusCode durationMs timings responseBody responseHeaders reason }
    } } } } }"""
CREATE = "mutation($i: CreateEndpointInput!) { createEndpoint(input: $i) { endpoint { id } } }"


@contextmanager
def statements(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Every statement that is executed meanwhile, but for those that come of themselves.

    The look at event types is due each second anyway; a pool may open one more connection, and checks it, at any time.
    """
    of_themselves = ("types_version", "pg_backend_pid()")
    seen: list[str] = []
    execute = AsyncConnection.execute

    async def noted(self: Conn, query: Any, *args: Any, **kwargs: Any) -> Any:
        if not any(mark in str(query) for mark in of_themselves):
            seen.append(str(query))
        return await execute(self, query, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(AsyncConnection, "execute", noted)
        yield seen


async def deliver(conn: Conn, events: list[UUID], endpoints: list[UUID]) -> None:
    """Write a finished delivery with two attempts for each event and endpoint."""
    ids = Uuid7()
    for event_id in events:
        for endpoint_id in endpoints:
            delivery_id = ids()
            await conn.execute(
                """INSERT INTO history (id, tenant_id, event_id, endpoint_id, state, tier, attempts, reason, created_at)
                   SELECT %s, tenant_id, id, %s, 'delivered', 1, 2, 'ok', now() FROM events WHERE id = %s""",
                (delivery_id, endpoint_id, event_id),
            )
            for n, status, reason in ((1, 500, "http_server_error"), (2, 200, "ok")):
                await conn.execute(
                    """INSERT INTO attempts (delivery_id, n, at, tenant_id, endpoint_id, status, reason, request_url,
                                             body, total_ms, response_headers)
                       SELECT %s, %s, now(), tenant_id, %s, %s, %s, 'http://127.0.0.1/', %s, 12.6, '{"x": "y"}'
                       FROM events WHERE id = %s""",
                    (delivery_id, n, endpoint_id, status, reason, b"caf\xe9", event_id),
                )
    await conn.execute("DELETE FROM outbox")


async def test_fifty_events_with_all_around_them_take_as_many_statements_as_one(
    api: Api, conn: Conn, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoints = [
        UUID((await api.data(CREATE, i={"url": url, "eventTypes": ["*"]}))["createEndpoint"]["endpoint"]["id"])
        for url in ("http://127.0.0.1:9999/a", "http://127.0.0.1:9999/b")
    ]
    sent = await api.post("/api/v1/events/batch", {"events": [{"eventType": "a.b", "payload": n} for n in range(50)]})
    await deliver(conn, [UUID(result["id"]) for result in sent.json["results"]], endpoints)
    with statements(monkeypatch) as for_one:
        await api.data(QUERY, first=1)
    with statements(monkeypatch) as for_fifty:
        found = (await api.data(QUERY, first=50))["events"]
    assert max(len(for_one), len(for_fifty)) <= 14
    assert (found["totalCount"], len(found["edges"])) == (50, 50)
    for edge in found["edges"]:
        event = edge["node"]
        assert (event["status"], event["attempts"]) == ("DELIVERED", 4)
        assert len(event["deliveryAttempts"]) == 4
        assert {delivery["endpoint"]["url"][-1] for delivery in event["deliveries"]} == {"a", "b"}
        for delivery in event["deliveries"]:
            assert delivery["event"] == {"id": event["id"], "eventType": "a.b"}
            assert delivery["maxAttempts"] == 11
            assert [attempt["statusCode"] for attempt in delivery["deliveryAttempts"]] == [500, 200]
            assert delivery["deliveryAttempts"][0]["responseBody"] == "caf\ufffd"
            assert delivery["deliveryAttempts"][0]["durationMs"] == 13


async def test_sending_reads_nothing_back(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    query = """mutation($i: [SendEventInput!]!) { sendEvents(inputs: $i) { duplicate event {
        id status createdAt scheduledAt eventType payload headers priority attempts deliveredAt } } }"""
    await api.data("{ __typename }")
    with statements(monkeypatch) as seen:
        await api.data(query, i=[{"eventType": "a.b", "payload": n} for n in range(100)])
    assert len(seen) == 1


async def test_no_count_is_made_that_nobody_asked_for(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    await api.data("{ events { totalCount } }")
    with statements(monkeypatch) as seen:
        await api.data("{ events { nodes { id } pageInfo { hasNextPage } } }")
    assert len(seen) == 1


async def test_who_goes_away_takes_what_is_loaded_from_nobody_else() -> None:
    go_on = asyncio.Event()

    async def load(keys: list[int]) -> list[int]:
        await go_on.wait()
        return keys

    loader = DataLoader(load)
    leaving, staying = (asyncio.create_task(_awaited(loader.load(1))) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    go_on.set()
    assert await staying == 1
    assert leaving.cancelled()


async def _awaited(load: Awaitable[int]) -> int:
    return await load
