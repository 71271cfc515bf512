"""A real Prometheus of one test's own (Debian's package), and promtool."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from relay.up.development import free_port

_START_S = 20.0


class Prometheus:
    """One that runs; `query` asks it."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an answer of its API."""
        url = f"{self.url}{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=5) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> dict[tuple[str, ...], float]:
        """The values of an instant query by the values of their labels, in the labels' order, without the name."""
        found = self.get("/api/v1/query", query=expression)["result"]
        return {
            tuple(value for name, value in sorted(one["metric"].items()) if name != "__name__"): float(one["value"][1])
            for one in found
        }

    def value(self, expression: str) -> float | None:
        """The one value of a query; None without any."""
        found = list(self.query(expression).values())
        assert len(found) <= 1, found
        return found[0] if found else None


@contextmanager
def own_prometheus(
    folder: Path, jobs: Mapping[str, Sequence[int]], *, rules: Sequence[Path] = (), every: str = "500ms"
) -> Iterator[Prometheus]:
    """Run one that scrapes these ports of this machine, by job, so often."""
    port = free_port()
    config = {
        "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
        "rule_files": [str(path) for path in rules],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{one}" for one in ports]}]}
            for job, ports in jobs.items()
        ],
    }
    file = folder / "prometheus.json"
    file.write_text(json.dumps(config))  # JSON is YAML
    log = folder / "prometheus.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                shutil.which("prometheus") or "prometheus",
                f"--config.file={file}",
                f"--storage.tsdb.path={folder / 'prometheus'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=output,
            stderr=output,
        )
    try:
        _await(f"http://127.0.0.1:{port}/-/ready", log)
        yield Prometheus(port)
    finally:
        process.terminate()
        process.wait(10)


def _await(url: str, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
