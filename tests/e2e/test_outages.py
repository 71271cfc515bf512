"""Postgres or Redis away, seen from outside: what the pages say, what a producer is told, and that all goes on after.

The servers are given by DATABASE_URL and REDIS_URL here, so that `relay up` neither starts them nor starts them again.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from tests.e2e.client import Answer, Client
from tests.e2e.conftest import make_key
from tests.e2e.system import System, running_system, wait_until
from tests.servers import OwnServer, own_postgres, own_valkey
from tests.sink import Sink

#: A producer that waits longer has given up by itself.
REFUSED_WITHIN_S = 10.0


@dataclass(frozen=True)
class Fragile:
    """A system with servers that may be stopped, and a client in it."""

    system: System
    client: Client
    postgres: OwnServer
    valkey: OwnServer

    def ready(self) -> list[Answer]:
        """What the web and the worker processes say of themselves."""
        return [Client(url).get("/health/ready") for url in (self.system.url, self.system.metrics_url)]

    def says(self, status: int, **parts: str) -> bool:
        """Whether both answer so."""
        return all(page.status == status and page.json | parts == page.json for page in self.ready())


@pytest.fixture(scope="module")
def fragile() -> Iterator[Fragile]:
    with (
        own_postgres() as postgres,
        own_valkey() as valkey,
        running_system(workers=1, DATABASE_URL=postgres.server.url, REDIS_URL=valkey.server.url) as system,
    ):
        yield Fragile(system, Client(system.url, key=asyncio.run(make_key(system))), postgres, valkey)


def test_without_redis_it_is_ready_says_so_and_accepts_what_arrives_later(fragile: Fragile, sink: Sink) -> None:
    client = fragile.client
    client.endpoint(sink.url())
    before = client.send()
    wait_until(lambda: before in sink.events(), what="an arrival with Redis")
    fragile.valkey.kill()
    wait_until(lambda: fragile.says(200, postgres="up", redis="down"), what="Redis told to be down")
    sent = [client.send() for _ in range(20)]
    assert all("id" in result for result in client.send_batch([{"eventType": "a.b", "payload": 1}]))
    fragile.valkey.start()
    wait_until(lambda: fragile.says(200, redis="up"), what="Redis told to be up")
    wait_until(lambda: set(sent) <= set(sink.events()), what="every arrival")
    assert set(sink.events().values()) == {1}


def test_without_postgres_it_is_not_ready_and_producers_are_told_to_try_again(fragile: Fragile, sink: Sink) -> None:
    client = fragile.client
    client.endpoint(sink.url())
    fragile.postgres.kill()
    wait_until(lambda: fragile.says(503, postgres="down"), what="Postgres told to be down")
    for url in (fragile.system.url, fragile.system.metrics_url):
        assert Client(url).get("/health/live").status == 200
    asked_at = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        asking = pool.submit(client.ask, "{ events { totalCount } }")
        refused = client.post("/api/v1/events", {"eventType": "a.b", "payload": 1})
    assert time.monotonic() - asked_at < REFUSED_WITHIN_S
    assert (refused.status, refused.error["code"]) == (503, "UNAVAILABLE")
    assert int(refused.headers["retry-after"]) >= 1
    assert asking.result().error["code"] == "UNAVAILABLE"
    wait_until(lambda: told(fragile.system), what="a line in the log of the web processes")
    assert {json.loads(line)["level"] for line in told(fragile.system)} == {"warn"}
    fragile.postgres.start()
    wait_until(lambda: fragile.says(200, postgres="up"), 30, what="Postgres told to be up")
    wait_until(lambda: client.ask("{ events { totalCount } }").status == 200, what="an answer")
    sent = client.send()
    wait_until(lambda: sent in sink.events(), what="an arrival")


def told(system: System) -> list[str]:
    """What the web processes logged of it."""
    lines = [line.partition("| ") for line in system.log().splitlines()]
    return [text for name, _, text in lines if name.startswith("web") and "Postgres could not be reached" in text]
