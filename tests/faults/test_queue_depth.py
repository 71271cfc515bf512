"""`relay_queue_depth`, which autoscalers read: right within seconds whichever process leads, however the last one ended."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest

from relay.db import Conn
from relay.delivery.live import TIERS
from relay.settings import Settings
from relay.up.development import free_port
from tests.running import Running, until, until_so, worker
from tests.shop import Shop
from tests.sink import Answer, Sink

StartAt = Callable[[int], Running]
NOTHING = {"high": 0.0, "normal": 0.0, "low": 0.0}


@pytest.fixture
def start_at(settings: Settings, tmp_path: Path) -> Iterator[StartAt]:
    """Starts a worker with this METRICS_PORT."""
    started: list[Running] = []

    def start(port: int) -> Running:
        own = settings.model_copy(update={"metrics_port": port, "host": "127.0.0.1"})
        started.append(worker(own, tmp_path / f"worker-{len(started)}.log"))
        return started[-1]

    yield start
    for running in started:
        running.kill()
        print(running.text())


def depth(port: int) -> dict[str, float] | None:
    """What the worker's page says by tier; None while there is no page."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=3) as answer:
            text = answer.read().decode()
    except OSError:
        return None
    return {tier: float(n) for tier, n in re.findall(r'^relay_queue_depth\{tier="(\w+)"\} (\S+)$', text, re.MULTILINE)}


async def fill(shop: Shop, sink: Sink) -> UUID:
    """Send what nobody can finish, to a paused endpoint and to a slow one, which is returned."""
    slow = await shop.endpoint(sink.url("/slow"), max_concurrency=1, timeout_ms=60_000)
    await shop.pause(await shop.endpoint(sink.url("/paused")))
    await shop.accept(*(shop.event(priority=priority) for priority, n in ((1, 9), (5, 30), (9, 7)) for _ in range(n)))
    return slow


async def ready(conn: Conn, endpoint_id: UUID) -> dict[str, float]:
    """What nobody sends of what goes to this endpoint, by tier."""
    query = "SELECT tier, count(*) FROM live WHERE endpoint_id = %s AND owner IS NULL GROUP BY 1"
    found = dict(await (await conn.execute(query, (endpoint_id,))).fetchall())
    return {tier: float(found.get(n, 0)) for n, tier in enumerate(TIERS)}


async def test_the_depth_follows_the_lead_and_dies_with_the_leader(shop: Shop, conn: Conn, start_at: StartAt) -> None:
    with Sink(lambda _: Answer(delay_s=25.0)) as sink:
        workers = {port: start_at(port) for port in (free_port(), free_port())}
        slow = await fill(shop, sink)

        async def one_is_right(*ports: int) -> bool:
            right = await ready(conn, slow)
            return sum(right.values()) > 30 and any(depth(port) == right for port in ports)

        await until_so(lambda: one_is_right(*workers), 20)
        leader, other = sorted(workers, key=lambda port: depth(port) == NOTHING)
        await until(lambda: depth(other) == NOTHING, 10, what="0 of the other")

        await conn.execute("UPDATE leases SET holder = 1, until = now() + interval '1 minute'")
        await until(lambda: depth(leader) == NOTHING, 3, what="0 without the lead")
        await conn.execute("DELETE FROM leases")

        await until_so(lambda: one_is_right(*workers), 10)
        leader, other = sorted(workers, key=lambda port: depth(port) == NOTHING)
        assert depth(other) == NOTHING
        workers[leader].kill()
        await until_so(lambda: one_is_right(other), 10)
        assert depth(leader) is None
