"""What an open circuit held comes back at the endpoint's rate, with the attempts it had."""

from __future__ import annotations

from relay.db import Conn
from tests.delivery.crew import fan_out
from tests.faults.conftest import StartWorker
from tests.faults.test_rate_limit import most_in
from tests.running import until, until_true
from tests.scale import sized, tell
from tests.shop import Shop
from tests.sink import Answer, Sink

HELD = sized(10_000, 400)
RATE = sized(500, 100)


async def test_what_was_held_resumes_at_the_rate_with_its_attempts(
    shop: Shop, conn: Conn, start_worker: StartWorker
) -> None:
    ill = True
    with Sink(lambda _: Answer(status=500 if ill else 200)) as sink:
        await shop.endpoint(
            sink.url(), rate_limit_per_sec=RATE, circuit_reset_ms=3000, retry_schedule=[600_000], max_retries=5
        )
        await shop.send(HELD, at_once=500)
        await fan_out(shop, window=0)
        start_worker()
        start_worker()
        await until_true(conn, "SELECT EXISTS (SELECT 1 FROM lanes WHERE gate_reason = 'circuit_open')", 20)
        await until_true(conn, "SELECT NOT EXISTS (SELECT 1 FROM live WHERE owner IS NOT NULL)", 10)
        before = len(sink.arrivals)
        rows = await conn.execute("SELECT count(*), sum(attempts) FROM live")
        assert await rows.fetchall() == [(HELD, before)], "what was held has the attempts it had"
        ill = False
        await until(lambda: len(sink.arrivals) == HELD, 30 + HELD / RATE, what="everything but those that failed")
        times = [arrival.at for arrival in sink.arrivals[before + 1 :]]
        assert most_in(times, 1.0) <= RATE * 1.2
        rows = await conn.execute("SELECT state, max(attempts), count(*) FROM history GROUP BY 1")
        await until_true(conn, "SELECT count(*) >= 1 FROM history", 5)
        rows = await conn.execute("SELECT DISTINCT state, attempts FROM history")
        assert await rows.fetchall() == [("delivered", 1)]
    tell(
        f"{HELD} held, {before} requests to the dead endpoint, then at most {most_in(times, 1.0)} of {RATE} in a second"
    )
