"""What the Compose file starts really works: each service with the very command, environment and check of the file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from shutil import rmtree

import pytest

from tests.deploy.compose import rendered
from tests.deploy.composed import Composed
from tests.e2e.client import Client
from tests.e2e.system import wait_until
from tests.sink import Sink

pytestmark = pytest.mark.system

EVENTS = 20
SEND = "mutation($input: SendEventInput!) { sendEvent(input: $input) { id } }"


@pytest.fixture
def project() -> Iterator[Composed]:
    folder = Path(tempfile.mkdtemp(prefix="relay-compose-"))
    folder.chmod(0o755)
    composed = Composed(rendered(), folder, worker=2)
    yield composed
    composed.kill()
    rmtree(folder, ignore_errors=True)


def test_it_starts_delivers_and_ends_in_order(project: Composed) -> None:
    project.up()
    for name in ("api", "worker"):
        for instance in project.of(name):
            instance.await_condition("service_healthy")
    assert "applied 0001" in project.of("migrate")[0].text()
    with Sink() as sink, closing(Client(project.url("api"))) as client:
        assert client.get("/playground").status == 200
        client.endpoint(sink.url(), eventTypes=["order.*"])
        sent = {
            client.data(SEND, input={"eventType": "order.paid", "payload": {"order": n}})["sendEvent"]["id"]
            for n in range(EVENTS)
        }
        wait_until(lambda: sink.events().keys() >= sent, what="every delivery")
        wait_until(lambda: all(client.story(id)["status"] == "DELIVERED" for id in sent), what="every record")
    (redis,) = project.of("redis")
    assert project.of("postgres")[0].is_healthy()
    assert project.stop() == {f"{instance.name}{instance.number}": 0 for instance in project.started}
    assert not redis.is_healthy()
    assert not any(instance.is_healthy() for instance in project.of("api") + project.of("worker"))
    assert not any("Traceback" in instance.text() for instance in project.started)
