"""What an endpoint answers, and what Relay keeps of it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from email.utils import formatdate
from pathlib import Path

import pytest

from relay.db import Conn
from relay.settings import Settings
from tests.delivery.crew import rows
from tests.running import until, until_true, worker
from tests.shop import Shop, open_shop
from tests.sink import Answer, Arrival, Sink


@pytest.fixture
async def shop(settings: Settings) -> AsyncIterator[Shop]:
    async with open_shop(settings) as shop:
        yield shop


async def test_a_retry_after_is_waited_for_and_credentials_are_not_kept(
    shop: Shop, conn: Conn, settings: Settings, tmp_path: Path
) -> None:
    def answer(arrival: Arrival) -> Answer:
        if arrival.attempt == 1:
            return Answer(429, headers={"Retry-After": "2", "Set-Cookie": "s3cret"})
        return Answer(200)

    with Sink(answer) as sink:
        headers = {"Authorization": "Bearer s3cret", "X-Shop": "north"}
        await shop.endpoint(sink.url(), retry_schedule=[100, 3000], custom_headers=headers)
        process = worker(settings, tmp_path / "worker.log")
        await shop.send(1)
        await until(lambda: len(sink.arrivals) == 2, what="the second attempt")
        process.stop()
    first, second = sink.arrivals
    assert second.at - first.at >= 2.0
    assert second.headers["authorization"] == "Bearer s3cret"
    kept = await rows(conn, "SELECT request_headers, response_headers FROM attempts ORDER BY n")
    assert "s3cret" not in str(kept)
    assert all(request["X-Shop"] == "north" for request, _ in kept)  # pyright: ignore[reportIndexIssue]


async def test_a_retry_after_as_a_date_is_waited_for_up_to_the_policys_longest_delay(
    shop: Shop, settings: Settings, tmp_path: Path
) -> None:
    asked = {"/soon": 2, "/late": 3600}  # a date has no fractions of a second: 2 s or a little more

    def answer(arrival: Arrival) -> Answer:
        if arrival.attempt > 1:
            return Answer(200)
        return Answer(503, headers={"Retry-After": formatdate(time.time() + asked[arrival.path] + 1, usegmt=True)})

    with Sink(answer) as sink:
        for path in asked:
            await shop.endpoint(sink.url(path), retry_schedule=[50, 3000])
        process = worker(settings, tmp_path / "worker.log")
        await shop.send(1)
        await until(lambda: len(sink.arrivals) == 4, what="both second attempts")
        process.stop()
    waited = {path: [one.at for one in sink.arrivals if one.path == path] for path in asked}
    assert waited["/soon"][1] - waited["/soon"][0] >= 2.0
    assert 3.0 <= waited["/late"][1] - waited["/late"][0] < 20.0


async def test_a_status_code_that_the_endpoint_lists_ends_a_delivery_at_once(
    shop: Shop, conn: Conn, settings: Settings, tmp_path: Path
) -> None:
    with Sink(lambda _: Answer(422)) as sink:
        await shop.endpoint(sink.url("/listed"), terminal_status_codes=[422], retry_schedule=[50])
        await shop.endpoint(sink.url("/not"), terminal_status_codes=[404], retry_schedule=[50])
        process = worker(settings, tmp_path / "worker.log")
        await shop.send(1)
        await until_true(conn, "SELECT count(*) = 2 FROM history WHERE state = 'dead'", 20)
        process.stop()
    ended = await rows(conn, "SELECT attempts, reason FROM history ORDER BY attempts")
    assert ended == [(1, "terminal_status"), (2, "attempts_exhausted")]
