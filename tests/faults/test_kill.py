"""Whatever dies, every accepted event arrives."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest

from relay.catalog import endpoints
from relay.catalog.endpoints import EndpointSpec
from relay.intake.accept import Accepted, NewEvent
from relay.runtime import Web
from relay.settings import Settings
from relay.tenancy import tenants
from tests.running import until, worker
from tests.sink import Answer, Arrival, Sink


@pytest.fixture
async def web(settings: Settings) -> AsyncIterator[Web]:
    process = Web(settings)
    await process.open()
    yield process
    await process.close()


async def subscribe(web: Web, *urls: str, **fields: object) -> UUID:
    async with web.db.transaction() as conn:
        tenant, _ = await tenants.ensure(conn, "shop", vault=web.vault)
        for url in urls:
            spec = EndpointSpec.model_validate({"url": url, "eventTypes": ["*"], **fields})
            await endpoints.create(conn, tenant.id, spec, id=web.ids(), vault=web.vault, guard=web.guard)
    return tenant.id


async def send(web: Web, tenant_id: UUID, count: int) -> set[str]:
    accepted: set[str] = set()
    for start in range(0, count, 100):
        events = [NewEvent(tenant_id, b'{"n":%d}' % n, "order.paid") for n in range(start, min(start + 100, count))]
        for receipt in await web.collector.accept(events):
            assert isinstance(receipt, Accepted)
            accepted.add(str(receipt.id))
    return accepted


async def test_an_event_arrives(web: Web, settings: Settings, tmp_path: Path) -> None:
    with Sink() as sink:
        tenant_id = await subscribe(web, sink.url())
        process = worker(settings, tmp_path / "worker.log")
        sent = await send(web, tenant_id, 1)
        try:
            await until(lambda: set(sink.events()) == sent, 20, what="the arrival")
        except AssertionError:
            print(process.text())
            raise
        finally:
            process.kill()


async def test_kill_9_of_the_worker_loses_nothing(web: Web, settings: Settings, tmp_path: Path) -> None:
    def answer(arrival: Arrival) -> Answer:
        return Answer(delay_s=0.05)

    with Sink(answer) as sink:
        tenant_id = await subscribe(web, *(sink.url(f"/{n}") for n in range(5)))
        process = worker(settings, tmp_path / "worker.log")
        sent = await send(web, tenant_id, 400)
        for least in (200, 800):
            await until(lambda least=least: len(sink.arrivals) > least, 20, what="arrivals")
            process.kill()
            process.start()
        await until(lambda: all(set(sink.events(f"/{n}")) == sent for n in range(5)), 60, what="every arrival")
        process.kill()
