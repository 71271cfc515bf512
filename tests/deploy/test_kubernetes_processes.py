"""What the containers of the production overlay start, run here as it stands there: settings, files, probes, the end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import SIGNING_KEY
from tests.deploy.rendered import Document, overlay
from tests.running import CHECKOUT, Running, until


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Node:
    """Starts containers as the kubelet does: with their own environment only, and the secret's files mounted."""

    def __init__(self, folder: Path, database_url: str, redis_url: str) -> None:
        self._folder = folder
        self._redis_url = redis_url
        self.ports = {"PORT": free_port(), "METRICS_PORT": free_port()}
        (folder / "database-url").write_text(database_url, encoding="utf-8")
        (folder / "signing-key").write_text(f"{SIGNING_KEY}\n", encoding="utf-8")
        (folder / "tmp").mkdir()

    def environment(self, container: Document) -> dict[str, str]:
        given = overlay("production").environment(container)
        for name, value in given.items():
            given[name] = value.replace("/run/secrets/relay", str(self._folder))
        # What differs here: where Redis is, ports that are free, and one process where the pod has two.
        given |= {name: str(port) for name, port in self.ports.items()}
        given |= {"REDIS_URL": self._redis_url, "HOST": "127.0.0.1", "WEB_CONCURRENCY": "1", "WORKER_PROCESSES": "1"}
        path = os.pathsep.join((str(Path(sys.executable).parent), os.defpath))
        return {**given, "PATH": path, "TMPDIR": str(self._folder / "tmp"), "RELAY_DATA_DIR": str(self._folder)}

    def finish(self, container: Document) -> str:
        """Run an init container to its end."""
        done = subprocess.run(
            container["command"],
            cwd=CHECKOUT,
            env=self.environment(container),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, container: Document) -> Running:
        return Running(container["command"], self.environment(container), self._folder / container["name"])

    def probe(self, container: Document, probe: str) -> bool:
        """Whether the kubelet would be content."""
        asked = container[probe]["httpGet"]
        port = self.ports["METRICS_PORT" if asked["port"] == "metrics" else "PORT"]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{asked['path']}", timeout=5) as answer:
                return 200 <= answer.status < 400
        except (urllib.error.HTTPError, OSError):
            return False


@pytest.fixture
def node(tmp_path: Path, empty_database_url: str, redis_url: str) -> Node:
    return Node(tmp_path, empty_database_url, redis_url)


async def test_the_containers_start_answer_their_probes_and_end_in_time(node: Node) -> None:
    production = overlay("production")
    api, worker = production.container("relay-api"), production.container("relay-worker")
    running: list[Running] = []
    try:
        running.append(node.start(api))
        await until(lambda: node.probe(api, "startupProbe"), what="the start")
        assert node.probe(api, "livenessProbe")
        assert not node.probe(api, "readinessProbe")  # the schema is not there yet
        assert "0001_foundation" in node.finish(production.init_container("relay-api"))
        assert node.finish(production.init_container("relay-api")) == "The schema is up to date.\n"
        assert "schema is at" in node.finish(production.init_container("relay-worker"))
        running.append(node.start(worker))
        await until(lambda: node.probe(worker, "startupProbe"), what="the start")
        for container in (api, worker):
            for probe in ("livenessProbe", "readinessProbe"):
                await until(partial(node.probe, container, probe), what=probe)
        for one in running:
            one.process.send_signal(signal.SIGTERM)
        for one in running:
            assert one.process.wait(production.pod("relay-worker")["terminationGracePeriodSeconds"]) == 0, one.text()
    finally:
        for one in running:
            one.kill()
