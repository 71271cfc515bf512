"""The worker's pages, from the outside."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.settings import Settings
from tests.running import Running, until, worker


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@pytest.fixture
def two(settings: Settings, port: int, tmp_path: Path) -> Iterator[Running]:
    running = worker(settings.model_copy(update={"metrics_port": port}), tmp_path / "worker.log", processes=2)
    yield running
    running.kill()


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=3) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


async def test_the_processes_of_a_worker_share_one_port(two: Running, port: int) -> None:
    await until(lambda: get(port, "/health/ready")[0] == 200, what="readiness")
    assert json.loads(get(port, "/health/ready")[1]) == {"postgres": "up", "schema": "current", "redis": "up"}
    assert get(port, "/health/live") == (200, '{"status":"live"}')
    assert {get(port, "/metrics")[0] for _ in range(10)} == {200}
    assert "relay_outcomes_total" in get(port, "/metrics")[1] or "relay_attempt_duration" in get(port, "/metrics")[1]
    assert get(port, "/else")[0] == 404


async def test_a_taken_port_is_a_warning_and_no_stop(
    two: Running, settings: Settings, port: int, tmp_path: Path
) -> None:
    await until(lambda: get(port, "/health/ready")[0] == 200, what="readiness")
    second = worker(settings.model_copy(update={"metrics_port": port}), tmp_path / "second.log")
    try:
        await until(lambda: "Redis is there" in second.text(), what="the second worker")
        assert f"METRICS_PORT {port} cannot be used" in second.text()
    finally:
        second.kill()
