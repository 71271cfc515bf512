"""A real Prometheus with the real rules watches: after a bench every panel shows, in trouble the guide's alerts fire."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from relay.settings import Settings
from relay.tenancy import tenants
from relay.up.development import free_port
from tests.documents import ROOT, blocks_of
from tests.monitoring.rules import DASHBOARDS, RULES, alerts, expressions, filled, hurried
from tests.prometheus import Prometheus, own_prometheus
from tests.running import until, web, worker
from tests.shop import Shop
from tests.sink import Answer, Arrival, Sink

#: 5 minutes are 3 s and an hour is 36 s.
TIMES = 100
DRIVEN_UP = {"RelayDeadLettersGrow", "RelayCircuitsOpening", "RelayQueueDeep", "RelayErrorsBurnFast"}
#: Its time is not waited for.
MAY_FIRE = DRIVEN_UP | {"RelayErrorsBurnSlow"}


class Site:
    """A web process and a worker, each with a page to scrape."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.port, self.metrics_port = free_port(), free_port()
        self.jobs = {"relay-web": [self.port], "relay-worker": [self.metrics_port]}
        own = settings.model_copy(update={"port": self.port, "metrics_port": self.metrics_port})
        self.running = [web(own, folder / "web.log"), worker(own, folder / "worker.log", TMPDIR=str(folder))]

    def there(self) -> bool:
        with suppress(OSError):
            for port in (self.port, self.metrics_port):
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=3) as answer:
                    answer.read()
            return True
        return False

    def send(self, type: str, count: int) -> None:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/v1/events/batch",
            data=json.dumps({"events": [{"eventType": type, "payload": {"n": n}} for n in range(count)]}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert sum("id" in one for one in json.load(answer)["results"]) == count


@pytest.fixture
def site(settings: Settings, tmp_path: Path) -> Iterator[Site]:
    site = Site(settings, tmp_path)
    yield site
    for running in site.running:
        running.kill()
        print(running.text())


async def own_shop(shop: Shop) -> Shop:
    """The shop of the client that everything belongs to without keys."""
    async with shop.web.db.transaction() as conn:
        tenant, _ = await tenants.ensure(conn, tenants.DEFAULT_NAME, vault=shop.web.vault)
    return Shop(shop.web, tenant.id)


def by_path(arrival: Arrival) -> Answer:
    return Answer(200, delay_s=25.0 if arrival.path == "/slow" else 0.0) if arrival.path in GOOD else Answer(500)


GOOD = ("/good", "/slow")


@asynccontextmanager
async def trouble(site: Site, shop: Shop, sink: Sink) -> AsyncIterator[None]:
    """A queue of an endpoint that is too slow, a circuit that opens, and more failures than successes, all the while."""
    await shop.endpoint(sink.url("/good"), event_types=["good"])
    await shop.endpoint(sink.url("/bad"), event_types=["bad"], max_retries=0, circuit_threshold=1000)
    await shop.endpoint(sink.url("/broken"), event_types=["broken"], circuit_threshold=3)
    await shop.endpoint(sink.url("/slow"), event_types=["slow"], max_concurrency=1, timeout_ms=60_000)

    async def on_and_on() -> None:
        await asyncio.to_thread(site.send, "slow", 1000)
        await asyncio.to_thread(site.send, "slow", 1000)
        await asyncio.to_thread(site.send, "broken", 10)
        while True:
            await asyncio.to_thread(site.send, "bad", 4)
            await asyncio.to_thread(site.send, "good", 2)
            await asyncio.sleep(0.3)

    task = asyncio.create_task(on_and_on())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def fired(prometheus: Prometheus) -> set[str]:
    """The alerts that have fired since the start, but for those about processes: to them a hiccup of 1 s is 100 s."""
    found = prometheus.query('count by (alertname) (max_over_time(ALERTS{alertstate="firing"}[5m]))')
    return {name for (name,) in found} - alerts(group="relay-processes").keys()


#: Place and expression of each panel, and of what the page on operations shows.
PANELS = [(f"{path.stem}: {title}", filled(wanted)) for path in DASHBOARDS for title, wanted in expressions(path)]
GUIDE = [(one.place, one.text) for one in blocks_of(ROOT / "docs" / "operations.md") if one.language == "promql"]


def empty(prometheus: Prometheus, places: Sequence[tuple[str, str]]) -> list[str]:
    """Where nothing is seen."""
    return [f"{place}: {expression}" for place, expression in places if not prometheus.query(expression)]


def bench_single(site: Site, figures: Path) -> None:
    """Run `bench single` against the site, a moment only."""
    argv = [sys.executable, "-m", "bench", "single", "--quick", "--seconds", "1", "--json", str(figures)]
    argv += ["--url", f"http://127.0.0.1:{site.port}"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.system
async def test_every_panel_of_every_dashboard_shows_something_after_a_bench(site: Site, tmp_path: Path) -> None:
    await until(site.there, what="both pages")
    with own_prometheus(tmp_path, site.jobs, every="300ms") as prometheus:
        await until(lambda: prometheus.value("sum(relay_worker_slots)") is not None, what="a look before")
        await asyncio.to_thread(bench_single, site, tmp_path / "figures.json")
        await until(lambda: not empty(prometheus, PANELS), 30, what=f"a series in {empty(prometheus, PANELS)}")


@pytest.mark.system
async def test_what_is_driven_up_fires_and_nothing_else(site: Site, shop: Shop, tmp_path: Path) -> None:
    rules = tmp_path / "alerts.yaml"
    rules.write_text(hurried(RULES.read_text(), times=TIMES))
    await until(site.there, what="both pages")
    with Sink(by_path) as sink, own_prometheus(tmp_path, site.jobs, rules=[rules], every="300ms") as prometheus:
        await until(lambda: prometheus.value("sum(relay_recorded_deliveries_total)") == 0, what="a look before")
        assert fired(prometheus) == set()
        async with trouble(site, await own_shop(shop), sink):
            await until(lambda: fired(prometheus) >= DRIVEN_UP, 60, what=f"{DRIVEN_UP}")
            await until(lambda: not empty(prometheus, GUIDE), 30, what=f"a series in {empty(prometheus, GUIDE)}")
        assert fired(prometheus) - MAY_FIRE == set()
