"""Notices in real worker processes: once each, and none of notices, whatever whoever gets them answers."""

from __future__ import annotations

import json

from relay.db import Conn
from tests.delivery.crew import rows
from tests.faults.conftest import StartWorker
from tests.running import until_true
from tests.shop import Shop
from tests.sink import Answer, Sink

DISABLED = "SELECT count(*) = 2 FROM endpoints WHERE disabled_reason = 'gone'"
ALL_IS_TOLD = """SELECT NOT EXISTS (SELECT 1 FROM live) AND NOT EXISTS (SELECT 1 FROM outbox)
                        AND NOT EXISTS (SELECT 1 FROM dead_letters WHERE NOT told)"""


async def test_a_410_disables_its_endpoint_and_is_told_of_once_also_where_notices_get_one(
    shop: Shop, conn: Conn, start_worker: StartWorker
) -> None:
    with Sink(lambda arrival: Answer(200 if arrival.path == "/watcher" else 410)) as sink:
        gone = await shop.endpoint(sink.url("/gone"))
        await shop.endpoint(sink.url("/sulking-watcher"), event_types=["relay.*"])
        await shop.endpoint(sink.url("/watcher"), event_types=["relay.*"])
        workers = [start_worker() for _ in range(2)]
        await shop.send(5)
        await until_true(conn, DISABLED, 30)
        await until_true(conn, ALL_IS_TOLD, 30)
        told = [json.loads(arrival.body) for arrival in sink.arrivals if arrival.path == "/watcher"]
    assert {one["endpointId"] for one in told} == {str(gone)}
    kinds = await rows(conn, "SELECT type FROM events WHERE type LIKE 'relay.%%' ORDER BY type")
    assert kinds == [("relay.delivery.dead",), ("relay.endpoint.disabled",)]
    assert len(told) == 2
    assert "is dead: GONE" in "".join(worker.text() for worker in workers)
