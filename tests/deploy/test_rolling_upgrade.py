"""The release before and this one, on one database and one Redis: together, one after the other, and back again.

The release before is the commit in deploy/RELEASE, run from its own files with today's packages.
"""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import subprocess
import tarfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import pytest

from relay.db import Conn, Database
from relay.settings import Settings
from relay.up.development import free_port
from tests.ledger import offenders
from tests.running import CHECKOUT, until, until_true, web, worker
from tests.sink import Answer, Sink

pytestmark = pytest.mark.system

RELEASE = CHECKOUT / "deploy" / "RELEASE"
CREATE = "mutation Create($input: CreateEndpointInput!) { createEndpoint(input: $input) { endpoint { id } } }"
UNREACHABLE = (OSError, http.client.HTTPException)


@pytest.fixture(scope="session")
def release_before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the last release, as git has them."""
    folder = tmp_path_factory.mktemp("release")
    argv = ["git", "archive", "--format=tar", RELEASE.read_text().strip()]
    archive = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    return folder


class Release:
    """A web and a worker service of one release."""

    def __init__(self, settings: Settings, folder: Path, *, home: Path) -> None:
        self.port, self.metrics_port = free_port(), free_port()
        own = settings.model_copy(update={"port": self.port, "metrics_port": self.metrics_port})
        name = f"{home.name}-{self.port}"
        self.services = [web(own, folder / f"{name}-web.log", home=home),
                         worker(own, folder / f"{name}-worker.log", home=home)]  # fmt: skip

    async def until_ready(self) -> None:
        deadline = time.monotonic() + 60
        while {_status(self.port), _status(self.metrics_port)} != {200}:
            assert time.monotonic() < deadline, "not ready"
            await asyncio.sleep(0.2)

    def stop(self) -> list[int]:
        """SIGTERM, to both at once; their exit codes."""
        for service in self.services:
            service.process.terminate()
        return [service.process.wait(40) for service in self.services]


def _status(port: int) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=3) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except UNREACHABLE:
        return 0


def post(port: int, path: str, body: dict[str, Any], **headers: str) -> dict[str, Any]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "Connection": "close", **headers},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read())


class Trickle(threading.Thread):
    """A sender of some ten events a second, to whichever web service takes them, as a balancer does."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.ports: tuple[int, ...] = ()
        self.accepted: list[str] = []
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        self._ended.set()
        self.join(20)
        assert not self.is_alive()

    def run(self) -> None:
        while not self._ended.wait(0.1):
            key = uuid4().hex
            deadline = time.monotonic() + 15
            while (id := self._send(key)) is None:
                assert time.monotonic() < deadline, "no web service takes events"
                self._ended.wait(0.02)
            self.accepted.append(id)

    def _send(self, key: str) -> str | None:
        event = {"eventType": "order.paid", "payload": {"n": len(self.accepted)}}
        for port in self.ports[len(self.accepted) % 2 :] + self.ports:
            try:
                return post(port, "/api/v1/events", event, **{"Idempotency-Key": key})["id"]
            except UNREACHABLE:
                continue
        return None

    async def until_more(self, count: int) -> None:
        """Until that many more are accepted."""
        goal = len(self.accepted) + count
        await until(lambda: len(self.accepted) >= goal, 20, what="more events")


@pytest.fixture
def releases(settings: Settings, tmp_path: Path) -> Iterator[list[Release]]:
    """Those that a test starts; they are ended with it, and their logs shown when it fails."""
    started: list[Release] = []
    yield started
    for service in (service for release in started for service in release.services):
        service.kill()
        print(service.text())


def test_the_last_release_is_a_commit_before_this_one() -> None:
    argv = ["git", "merge-base", "--is-ancestor", RELEASE.read_text().strip(), "HEAD"]
    assert subprocess.run(argv, cwd=CHECKOUT, check=False).returncode == 0


async def test_a_rolling_upgrade_and_the_way_back_lose_nothing_and_repeat_nothing(
    settings: Settings, conn: Conn, release_before: Path, releases: list[Release], tmp_path: Path
) -> None:
    def start(home: Path) -> Release:
        releases.append(Release(settings, tmp_path, home=home))
        return releases[-1]

    with Sink(lambda _: Answer(delay_s=0.05)) as sink, Trickle() as trickle:
        old = start(release_before)  # on a schema that this code has migrated
        await old.until_ready()
        fields = {"url": sink.url(), "eventTypes": ["*"]}
        answer = post(old.port, "/graphql", {"query": CREATE, "variables": {"input": fields}})
        assert "errors" not in answer, answer
        trickle.ports = (old.port,)
        await trickle.until_more(10)
        await until(lambda: len(sink.events()) >= 10, 10, what="deliveries by the release before")

        new = start(CHECKOUT)
        await new.until_ready()
        trickle.ports = (old.port, new.port)
        await until_true(conn, "SELECT count(*) = 2 FROM workers")
        await trickle.until_more(10)
        assert old.stop() == [0, 0]
        await trickle.until_more(8)

        back = start(release_before)
        await back.until_ready()
        trickle.ports = (new.port, back.port)
        await trickle.until_more(8)
        assert new.stop() == [0, 0]
        await trickle.until_more(8)
        trickle.end()
        await until(lambda: set(sink.events()) >= set(trickle.accepted), 20, what="every arrival")
        await until_true(conn, "SELECT NOT EXISTS (SELECT 1 FROM live)", 10)
        assert sink.events() == dict.fromkeys(trickle.accepted, 1)
    db = Database(settings)
    await db.open()
    assert await offenders(db) == {}
    await db.close()
