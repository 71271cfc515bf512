"""Recovery as clients see it: replay, retry, cancel, batches and jobs."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from relay.db import Conn
from relay.settings import Settings
from tests.api.conftest import Api, make_key
from tests.delivery.crew import rows
from tests.rows import World, make_world

REPLAY = "mutation($id: ID!, $e: ID) { replayEvent(id: $id, endpointId: $e) { id status } }"
RETRY = (
    "mutation($id: ID!) { retryDelivery(id: $id) { id status replayOf { id replayedBy { id } } replayedBy { id } } }"
)
CANCEL = "mutation($id: ID!) { cancelDelivery(id: $id) { id status reason } }"
BATCH = "{ succeeded { id status } failed { eventId code error } totalRequested totalSucceeded }"
START = """mutation($i: ReplayInput!) { startReplay(input: $i) {
    id kind status dryRun total done skipped failed ratePerSec input result error etaSeconds finishedAt } }"""
WINDOW = {"since": "2020-01-01T00:00:00Z", "until": "2100-01-01T00:00:00Z"}
DEAD = "{ deliveries(filter: {status: DEAD, settled: false}) { totalCount } }"


@pytest.fixture
async def world(api: Api, conn: Conn) -> World:
    """The client that is everybody while there are no keys."""
    await api.data("{ __typename }")
    rows_ = await conn.execute("SELECT name FROM tenants")
    row = await rows_.fetchone()
    return await make_world(conn, row[0] if row else "default")


async def test_a_replayed_event_has_new_deliveries_and_no_dead_ones(api: Api, world: World) -> None:
    event = await world.event()
    dead = await world.finished(event, "dead")
    assert (await api.data(DEAD))["deliveries"]["totalCount"] == 1
    assert (await api.data(REPLAY, id=str(event)))["replayEvent"] == {"id": str(event), "status": "QUEUED"}
    assert (await api.data(DEAD))["deliveries"]["totalCount"] == 0
    query = "query($id: ID!) { event(id: $id) { deliveries { id status replayOf { id } replayedBy { id } } } }"
    new, old = (await api.data(query, id=str(event)))["event"]["deliveries"]
    assert (new["status"], new["replayOf"], new["replayedBy"]) == ("QUEUED", {"id": str(dead)}, None)
    assert (old["id"], old["replayOf"], old["replayedBy"]) == (str(dead), None, {"id": new["id"]})
    assert await api.error(REPLAY, id=str(event)) == ("CONFLICT", None)
    again = (await api.data(REPLAY, id=str(event), e=str(world.endpoint_id)))["replayEvent"]
    assert again["status"] == "QUEUED"


async def test_retrying_returns_the_delivery_that_is_due(api: Api, world: World) -> None:
    failed = str(await world.waiting(await world.event(), attempts=1, due_s=3600))
    assert (await api.data(RETRY, id=failed))["retryDelivery"] == {
        "id": failed, "status": "FAILED", "replayOf": None, "replayedBy": None,
    }  # fmt: skip
    dead = str(await world.finished(await world.event(), "dead"))
    new = (await api.data(RETRY, id=dead))["retryDelivery"]
    assert new["status"] == "QUEUED"
    assert new["replayOf"] == {"id": dead, "replayedBy": {"id": new["id"]}}
    assert await api.error(RETRY, id=dead) == ("CONFLICT", None)


async def test_a_cancelled_delivery_is_over_and_a_settled_one_stays_dead(api: Api, world: World) -> None:
    waiting, dead = await world.waiting(await world.event()), await world.finished(await world.event(), "dead")
    sending = await world.dispatched(await world.event(), owner=1)
    assert (await api.data(CANCEL, id=str(waiting)))["cancelDelivery"] == {
        "id": str(waiting), "status": "CANCELLED", "reason": "CANCELLED_BY_USER",
    }  # fmt: skip
    assert (await api.data(CANCEL, id=str(dead)))["cancelDelivery"]["status"] == "DEAD"
    assert (await api.data(DEAD))["deliveries"]["totalCount"] == 0
    for id in (waiting, dead, sending):
        assert await api.error(CANCEL, id=str(id)) == ("CONFLICT", None)


async def test_a_place_in_a_fifo_lane_is_shown(api: Api, world: World) -> None:
    plain, ordered = str(await world.waiting(await world.event())), str(await world.waiting(await world.event()))
    await rows(world.conn, "UPDATE live SET lane = 'fifo:a', seq = 7 WHERE id = %s RETURNING 1", (ordered,))
    query = "query($id: ID!) { delivery(id: $id) { sequence partitionKey } }"
    assert (await api.data(query, id=plain))["delivery"] == {"sequence": None, "partitionKey": None}
    assert (await api.data(query, id=ordered))["delivery"] == {"sequence": 7, "partitionKey": "a"}


async def test_a_batch_says_what_became_of_each_event(api: Api, world: World) -> None:
    dead, fine = await world.event(), await world.event()
    await world.finished(dead, "dead")
    await world.finished(fine)
    unknown = str(uuid4())
    query = f"mutation($ids: [ID!]!) {{ retryEvents(ids: $ids) {BATCH} }}"
    found = (await api.data(query, ids=[str(dead), str(fine), unknown, "nonsense"]))["retryEvents"]
    assert found["succeeded"] == [{"id": str(dead), "status": "QUEUED"}]
    assert [(one["eventId"], one["code"]) for one in found["failed"]] == [
        (str(fine), "CONFLICT"),
        (unknown, "NOT_FOUND"),
        ("nonsense", "NOT_FOUND"),
    ]
    assert (found["totalRequested"], found["totalSucceeded"]) == (4, 1)


async def test_batches_by_status_and_by_endpoint(api: Api, world: World) -> None:
    by_status = f"mutation($s: DeliveryStatus!, $n: Int) {{ retryEventsByStatus(status: $s, limit: $n) {BATCH} }}"
    by_endpoint = (
        f"mutation($e: ID!, $s: DeliveryStatus) {{ retryEventsByEndpoint(endpointId: $e, status: $s) {BATCH} }}"
    )
    other = await world.endpoint()
    dead = [await world.event() for _ in range(3)]
    for event in dead:
        await world.finished(event, "dead")
    cancelled = await world.event()
    await world.finished(cancelled, "cancelled", endpoint_id=other)
    found = (await api.data(by_status, s="DEAD", n=2))["retryEventsByStatus"]
    assert [one["id"] for one in found["succeeded"]] == [str(event) for event in dead[:2]]
    assert (await api.data(by_endpoint, e=str(other)))["retryEventsByEndpoint"]["totalRequested"] == 0
    found = (await api.data(by_endpoint, e=str(other), s="CANCELLED"))["retryEventsByEndpoint"]
    assert [one["id"] for one in found["succeeded"]] == [str(cancelled)]
    for limit in (0, 1001):
        assert await api.error(by_status, s="DEAD", n=limit) == ("INVALID", "limit")
    assert await api.error(by_status, s="DELIVERED") == ("INVALID", "status")
    assert (await api.error(by_endpoint, e=str(uuid4())))[0] == "NOT_FOUND"
    assert await api.error(f"mutation {{ retryEvents(ids: []) {BATCH} }}") == ("INVALID", "ids")


async def test_a_job_is_started_watched_paused_and_cancelled(api: Api, world: World) -> None:
    await world.finished(await world.event(), "dead")
    counted = (await api.data(START, i={**WINDOW, "dryRun": True}))["startReplay"]
    assert (counted["status"], counted["dryRun"], counted["total"], counted["done"]) == ("DONE", True, 1, 0)
    job = (await api.data(START, i={**WINDOW, "ratePerSec": 5, "statuses": ["DEAD", "CANCELLED"]}))["startReplay"]
    assert (job["kind"], job["status"], job["total"], job["ratePerSec"]) == ("REPLAY", "WAITING", None, 5)
    assert job["input"] == {
        "since": "2020-01-01T00:00:00Z", "until": "2100-01-01T00:00:00Z", "statuses": ["DEAD", "CANCELLED"],
        "ratePerSec": 5, "dryRun": False,
    }  # fmt: skip
    for name, status in (("pauseJob", "PAUSED"), ("resumeJob", "WAITING"), ("cancelJob", "CANCELLED")):
        query = f"mutation($id: ID!) {{ {name}(id: $id) {{ status }} }}"
        assert (await api.data(query, id=job["id"]))[name] == {"status": status}
    assert (await api.error(query, id=job["id"]))[0] == "CONFLICT"
    assert (await api.data("query($id: ID!) { job(id: $id) { status } }", id=job["id"]))["job"]["status"] == "CANCELLED"
    listed = (await api.data("{ jobs { totalCount nodes { id } } }"))["jobs"]
    assert listed == {"totalCount": 2, "nodes": [{"id": job["id"]}, {"id": counted["id"]}]}


WRONG: list[tuple[dict[str, Any], tuple[str, str | None]]] = [
    ({"until": "2019-01-01T00:00:00Z"}, ("INVALID", "since")),
    ({"statuses": ["FAILED"]}, ("INVALID", "statuses")),
    ({"ratePerSec": 0}, ("INVALID", "ratePerSec")),
    ({"eventTypes": ["a b"]}, ("INVALID", "eventTypes")),
    ({"endpointId": str(uuid4())}, ("NOT_FOUND", None)),
    ({"toEndpointId": str(uuid4())}, ("NOT_FOUND", None)),
    ({"colour": "red"}, ("INVALID", "colour")),
]


async def test_a_wrong_replay_is_one_clear_error_and_no_job(api: Api) -> None:
    for wrong, error in WRONG:
        assert await api.error(START, i={**WINDOW, **wrong}) == error, wrong
    assert (await api.data("{ jobs { totalCount } }"))["jobs"]["totalCount"] == 0


async def test_what_is_anothers_is_not_found_by_the_same_words_as_nothing(
    locked: Api, conn: Conn, settings: Settings
) -> None:
    mine = Api(locked.conductor, await make_key(conn, settings, client="mine"))
    world = await make_world(conn, "mine")
    other = Api(locked.conductor, await make_key(conn, settings, client="other"))
    event, endpoint = await world.event(), world.endpoint_id
    delivery = await world.finished(event, "dead")
    job = UUID((await mine.data(START, i={**WINDOW, "dryRun": True}))["startReplay"]["id"])
    changes = [
        (REPLAY, event), (RETRY, delivery), (CANCEL, delivery),
        *((f"mutation($id: ID!) {{ {name}(id: $id) {{ id }} }}", job) for name in ("pauseJob", "resumeJob", "cancelJob")),
        (f"mutation($id: ID!) {{ retryEventsByEndpoint(endpointId: $id) {BATCH} }}", endpoint),
    ]  # fmt: skip
    for query, id in changes:
        answers = [await other.graphql(query, {"id": str(one)}) for one in (id, uuid4())]
        texts = [(error["message"], error["extensions"]["code"]) for answer in answers for error in answer["errors"]]
        assert texts[0] == texts[1]
        assert texts[0][1] == "NOT_FOUND"
    assert (await other.data("query($id: ID!) { job(id: $id) { id } }", id=str(job)))["job"] is None
    assert (await mine.data(DEAD))["deliveries"]["totalCount"] == 1
