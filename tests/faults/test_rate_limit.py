"""A rate limit holds for all workers together, is used in full, and costs next to nothing while it holds back."""

from __future__ import annotations

from tests.faults.conftest import StartWorker
from tests.running import until
from tests.scale import sized
from tests.shop import Shop
from tests.sink import Sink

RATE = 50
COUNT = sized(2_000, 300)
#: Of one core, for two workers: five times what the benchmark asks for.
CPU_SHARE = 0.5


def most_in(times: list[float], window_s: float) -> int:
    """The most arrivals in any window of that length."""
    most = start = 0
    for end, at in enumerate(times):
        while at - times[start] > window_s:
            start += 1
        most = max(most, end - start + 1)
    return most


async def test_two_workers_keep_to_one_rate(shop: Shop, start_worker: StartWorker) -> None:
    with Sink() as sink:
        await shop.endpoint(sink.url(), rate_limit_per_sec=RATE)
        await shop.send(COUNT)
        workers = [start_worker(), start_worker()]
        await until(lambda: len(sink.arrivals) > 10, 20)
        used = sum(worker.cpu_s() for worker in workers)
        await until(lambda: len(sink.arrivals) == COUNT, 30 + COUNT / RATE, what="all arrivals")
        used = sum(worker.cpu_s() for worker in workers) - used
        times = [arrival.at for arrival in sink.arrivals]
        lasted = times[-1] - times[0]
        assert most_in(times, 1.0) <= RATE * 1.2
        assert 0.95 * RATE <= COUNT / lasted <= 1.05 * RATE
        assert used / lasted <= CPU_SHARE
        print(
            f"{COUNT / lasted:.1f}/s, at most {most_in(times, 1.0)} in a second, {100 * used / lasted:.1f} % of a core"
        )
