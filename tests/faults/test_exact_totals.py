"""A real Prometheus looks on while workers are killed: its totals are the receiver's count, and its series few."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from relay.db import Conn
from relay.settings import Settings
from relay.tenancy import tenants
from relay.up.development import free_port
from tests.prometheus import Prometheus, own_prometheus
from tests.running import Running, environment, until, until_true, worker
from tests.shop import Shop
from tests.sink import Answer, Arrival, Sink

BATCHES, BATCH = 30, 50
SENT = BATCHES * BATCH
ENDPOINTS = 10_000
MOST_SERIES = 1_000


class Site:
    """A web service and two workers, each with a port for its page."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.ports = [free_port() for _ in range(3)]
        own = [
            settings.model_copy(update={"port": self.ports[0], "metrics_port": port, "web_concurrency": 1})
            for port in self.ports
        ]
        gunicorn = [sys.executable, "-m", "gunicorn", "--config", "deploy/gunicorn.conf.py", "api.app:app"]
        self.web = Running(gunicorn, environment(own[0], TMPDIR=str(folder)), folder / "web.log")
        self.workers = [worker(one, folder / f"worker-{n}.log", TMPDIR=str(folder)) for n, one in enumerate(own[1:])]

    def page(self, n: int) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[n]}/metrics", timeout=3) as answer:
            return answer.read().decode()

    def there(self) -> bool:
        try:
            return all("relay_build_info" in self.page(n) for n in range(3))
        except OSError:
            return False

    async def kill_a_web_process(self) -> None:
        """Have gunicorn make another one."""
        (old,) = psutil.Process(self.web.process.pid).children()
        old.kill()
        await until(lambda: self.there() and not old.is_running(), what="another web process")

    def send(self, count: int) -> None:
        events = [{"eventType": "order.paid", "payload": {"n": n}} for n in range(count)]
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.ports[0]}/api/v1/events/batch",
            data=json.dumps({"events": events}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert sum("id" in one for one in json.load(answer)["results"]) == count


@pytest.fixture
def site(settings: Settings, tmp_path: Path) -> Iterator[Site]:
    site = Site(settings, tmp_path)
    yield site
    for running in (site.web, *site.workers):
        running.kill()
        print(running.text())


@pytest.fixture
async def own_shop(shop: Shop) -> Shop:
    """The shop of the client that everything belongs to without keys."""
    async with shop.web.db.transaction() as conn:
        tenant, _ = await tenants.ensure(conn, tenants.DEFAULT_NAME, vault=shop.web.vault)
    return Shop(shop.web, tenant.id)


async def fail_at_many(conn: Conn, shop: Shop) -> None:
    """Write that three attempts failed at each of very many endpoints, two minutes ago."""
    await conn.execute(
        """INSERT INTO stats (grain, at, tenant_id, endpoint_id, attempts)
           SELECT 'minute', date_trunc('minute', now() - interval '3 min'), %s, gen_random_uuid(), 3
           FROM generate_series(1, %s)""",
        (shop.tenant_id, ENDPOINTS),
    )


def sometimes(arrival: Arrival) -> Answer:
    """Fails the first attempts of some events; takes a moment, so that a kill meets requests under way."""
    bad = arrival.attempt == 1 and int(arrival.event_id.replace("-", ""), 16) % 7 == 0
    return Answer(500 if bad else 200, delay_s=0.05)


def recorded(prometheus: Prometheus) -> tuple[float | None, float | None, float | None]:
    """Deliveries that arrived, good attempts and failed ones, as Prometheus has them of the records."""
    return (
        prometheus.value('max by (state) (relay_recorded_deliveries_total{state="delivered"})'),
        prometheus.value('max by (outcome) (relay_recorded_attempts_total{outcome="ok"})'),
        prometheus.value('max by (outcome) (relay_recorded_attempts_total{outcome="failed"})'),
    )


@pytest.mark.system
async def test_totals_are_the_receivers_count_though_a_worker_is_killed(
    site: Site, own_shop: Shop, conn: Conn, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        sink = stack.enter_context(Sink(sometimes))
        await own_shop.endpoint(sink.url(), retry_backoff_ms=100, max_concurrency=50, circuit_threshold=1000)
        await fail_at_many(conn, own_shop)
        await until(site.there, what="every page")
        prometheus = stack.enter_context(
            own_prometheus(tmp_path, {"web": site.ports[:1], "worker": site.ports[1:]}, every="500ms")
        )
        await asyncio.to_thread(lambda: [site.send(BATCH) for _ in range(BATCHES // 2)])
        await site.kill_a_web_process()
        await asyncio.to_thread(lambda: [site.send(BATCH) for _ in range(BATCHES // 2)])
        await until(lambda: len(sink.arrivals) > SENT // 3, what="traffic")
        leader = next(n for n in (1, 2) if "relay_clock_leader 1.0" in site.page(n))
        site.workers[leader - 1].kill()
        site.workers[leader - 1].start()
        await until_true(conn, "SELECT NOT EXISTS (SELECT FROM live) AND NOT EXISTS (SELECT FROM outbox)", 40)
        attempts = {(one.event_id, one.attempt) for one in sink.arrivals}
        failed = sum(attempt == 1 and int(id.replace("-", ""), 16) % 7 == 0 for id, attempt in attempts)
        assert len(sink.events()) == SENT
        exact = (SENT, len(attempts) - failed, failed + 3 * ENDPOINTS)
        await until(lambda: recorded(prometheus) == exact, 20, what=f"{exact} of {recorded(prometheus)}")
        await until(lambda: len(prometheus.query("relay_worst_endpoint_failures > 0")) == 10, what="the worst")
        assert prometheus.value("sum(relay_events_accepted_total)") == SENT
        assert prometheus.value("max(relay_unaccounted_events)") == 0
        assert prometheus.value("min(relay_postgres_up * on (instance) relay_redis_up)") == 1
        await until(lambda: prometheus.value("sum(relay_worker_slots)") == 2 * 1000, 20, what="the slots of both")
        assert prometheus.value("max(relay_clock_leader)") == 1
        grown = prometheus.value("sum(increase(relay_recorded_deliveries_total[1m]))") or 0
        assert grown < 1.5 * SENT  # extrapolated, so never exact; a jump with a new leader would be the whole total
        assert 100 < (prometheus.value('count({__name__=~"relay_.+"})') or 0) < MOST_SERIES
        assert [check(site.page(n)) for n in range(3)] == ["", "", ""]
    assert len(folders(tmp_path)) == 3  # not that of the killed worker
    for running in (site.web, *site.workers):
        running.process.terminate()
    for running in (site.web, *site.workers):
        running.process.wait(30)
    assert folders(tmp_path) == []


def folders(place: Path) -> list[Path]:
    return list(place.glob("relay-metrics-*"))


def check(page: str) -> str:
    """What promtool finds amiss in a page."""
    command = ["promtool", "check", "metrics"]
    done = subprocess.run(command, input=page, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr
