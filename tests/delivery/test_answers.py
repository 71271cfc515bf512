"""What an endpoint answers, and what Relay keeps of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.db import Conn
from relay.settings import Settings
from tests.delivery.crew import rows
from tests.running import until, worker
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
