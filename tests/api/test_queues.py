"""Priorities and FIFO lanes by API."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from relay.db import Conn
from relay.insight import counts
from relay.settings import Settings
from relay.tenancy.scopes import Scope
from tests.api.conftest import Api, make_key
from tests.api.test_endpoints import make
from tests.delivery.crew import rows
from tests.rows import insert_waiting, make_world

PRIORITIES = "{ priorityQueueStats { high normal low delayed } }"
OF_ENDPOINT = """query($id: ID!, $first: Int) { fifoQueueStats(endpointId: $id) { endpointId totalPartitions
    totalQueuedMessages partitions(first: $first) { partitionKey queueLength } } }"""
ACTIVE = """query($first: Int) { activeFIFOQueues(first: $first) { endpointId partitionKey queueLength isLocked
    hasInFlight blockedUntil oldestAgeSeconds head { id status } } }"""
RELEASE = "mutation($id: ID!, $key: String) { releaseFIFOLock(endpointId: $id, partitionKey: $key) }"
DRAIN = """mutation($id: ID!, $key: String, $move: Boolean) {
    drainFIFOQueue(endpointId: $id, partitionKey: $key, moveToStandard: $move) {
        endpointId partitionKey messagesDrained movedToStandard } }"""


async def fill(conn: Conn, endpoint: str, lane: str, count: int) -> list[UUID]:
    ((tenant,),) = await rows(conn, f"SELECT tenant_id FROM endpoints WHERE id = '{endpoint}'")
    assert isinstance(tenant, UUID)
    return await insert_waiting(conn, tenant, UUID(endpoint), count, lane=lane)


async def test_what_is_ready_is_told_by_tier_and_an_operator_sees_all(
    locked: Api, conn: Conn, settings: Settings
) -> None:
    world, other = await make_world(conn), await make_world(conn, "other")
    for tier, count in enumerate((1, 2, 3)):
        for _ in range(count):
            await world.waiting(await world.event(), tier=tier)
    await world.waiting(await world.event(), due_s=60)
    await conn.execute(
        "INSERT INTO scheduled VALUES (gen_random_uuid(), %s, now() + interval '1 h')", (world.tenant_id,)
    )
    await other.waiting(await other.event(), tier=2)
    await counts.refresh(conn)
    mine = Api(locked.conductor, await make_key(conn, settings))
    operator = Api(locked.conductor, await make_key(conn, settings, client="ops", scopes=frozenset(Scope)))
    assert (await mine.data(PRIORITIES))["priorityQueueStats"] == {"high": 1, "normal": 2, "low": 3, "delayed": 2}
    assert (await operator.data(PRIORITIES))["priorityQueueStats"] == {"high": 1, "normal": 2, "low": 4, "delayed": 2}


async def test_an_endpoints_lanes_are_counted_and_listed_the_longest_first(api: Api, conn: Conn) -> None:
    id = await make(api)
    empty = {"endpointId": id, "totalPartitions": 0, "totalQueuedMessages": 0, "partitions": []}
    assert (await api.data(OF_ENDPOINT, id=id))["fifoQueueStats"] == empty
    await fill(conn, id, "fifo:", 1)
    await fill(conn, id, "fifo:a", 2)
    assert (await api.data(OF_ENDPOINT, id=id))["fifoQueueStats"] == {
        "endpointId": id,
        "totalPartitions": 2,
        "totalQueuedMessages": 3,
        "partitions": [{"partitionKey": "a", "queueLength": 2}, {"partitionKey": "", "queueLength": 1}],
    }
    assert len((await api.data(OF_ENDPOINT, id=id, first=1))["fifoQueueStats"]["partitions"]) == 1
    assert (await api.error(OF_ENDPOINT, id=id, first=101)) == ("INVALID", "first")
    for unknown in ("01890000-0000-7000-8000-000000000000", "nonsense"):
        assert (await api.data(OF_ENDPOINT, id=unknown))["fifoQueueStats"] is None


async def test_active_queues_show_their_head_and_what_holds_them(api: Api, conn: Conn) -> None:
    id = await make(api)
    head, _ = await fill(conn, id, "fifo:a", 2)
    await conn.execute("UPDATE live SET due_at = '2100-01-01T00:00:00Z' WHERE id = %s", (head,))
    (queue,) = (await api.data(ACTIVE))["activeFIFOQueues"]
    assert queue.pop("oldestAgeSeconds") >= 0
    assert queue == {
        "endpointId": id,
        "partitionKey": "a",
        "queueLength": 2,
        "isLocked": False,
        "hasInFlight": False,
        "blockedUntil": "2100-01-01T00:00:00.000Z",
        "head": {"id": str(head), "status": "QUEUED"},
    }
    assert await api.error(ACTIVE, first=0) == ("INVALID", "first")


async def test_a_lane_is_released_once(api: Api, conn: Conn) -> None:
    id = await make(api)
    await fill(conn, id, "fifo:a", 1)
    await conn.execute("UPDATE lanes SET fence = 7, sent_at = now(), owner = 1 WHERE key = 'fifo:a'")
    assert (await api.data(ACTIVE))["activeFIFOQueues"][0]["isLocked"] is True
    assert (await api.data(RELEASE, id=id))["releaseFIFOLock"] is False
    assert [(await api.data(RELEASE, id=id, key="a"))["releaseFIFOLock"] for _ in range(2)] == [True, False]
    assert (await api.data(ACTIVE))["activeFIFOQueues"][0]["isLocked"] is False


async def test_a_lane_is_drained_into_the_standard_queue_or_into_nothing(api: Api, conn: Conn) -> None:
    id = await make(api)

    async def drain(**arguments: Any) -> dict[str, Any]:
        return (await api.data(DRAIN, id=id, **arguments))["drainFIFOQueue"]

    await fill(conn, id, "fifo:a", 5_001)
    expected = {"endpointId": id, "partitionKey": "a", "messagesDrained": 5_001, "movedToStandard": True}
    assert await drain(key="a", move=None) == expected
    assert await rows(conn, "SELECT DISTINCT lane, seq FROM live") == [("", None)]
    for key in (None, ""):
        await fill(conn, id, "fifo:", 2)
        assert await drain(key=key, move=False) == {
            "endpointId": id,
            "partitionKey": key,
            "messagesDrained": 2,
            "movedToStandard": False,
        }
    query = "{ deliveries(filter: {status: CANCELLED}) { totalCount nodes { reason } } }"
    cancelled = (await api.data(query))["deliveries"]
    assert cancelled == {"totalCount": 4, "nodes": 4 * [{"reason": "DRAINED"}]}


async def test_lanes_of_others_are_not_found(locked: Api, conn: Conn, settings: Settings) -> None:
    mine = Api(locked.conductor, await make_key(conn, settings, client="mine"))
    other = Api(locked.conductor, await make_key(conn, settings, client="other"))
    id = await make(mine)
    await fill(conn, id, "fifo:", 1)
    for unknown in (id, "nonsense"):
        for query in (RELEASE, DRAIN):
            assert (await other.error(query, id=unknown))[0] == "NOT_FOUND"
    assert (await other.data(OF_ENDPOINT, id=id))["fifoQueueStats"] is None
    assert (await other.data(ACTIVE))["activeFIFOQueues"] == []
    assert await mine.error(DRAIN, id=id, key="a\0") == ("INVALID", "partitionKey")
    assert await rows(conn, "SELECT lane FROM live") == [("fifo:",)]
