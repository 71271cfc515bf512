"""A whole Relay for the commands to talk to: `relay up` with its embedded servers, once per module that asks."""

from __future__ import annotations

import logging
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from relay.up.development import free_port

RELAY = Path(sys.executable).parent / "relay"
CHECKOUT = Path(__file__).parents[2]
START_S = 60.0


@dataclass(frozen=True)
class RunningRelay:
    """What a command must be told to find it."""

    url: str
    environment: dict[str, str]

    def run(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run `relay` with these arguments to its end, which must be this exit code."""
        done = subprocess.run(
            [RELAY, *arguments], env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `relay` with these arguments; its lines can be read as they come."""
        return subprocess.Popen(
            [RELAY, *arguments], env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """A command that runs in this process may configure logging for it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="module")
def running_relay() -> Iterator[RunningRelay]:
    """Relay as `make run` starts it, on ports and in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="relay-cli-"))
    folder.chmod(0o755)
    port = free_port()
    environment = {"PATH": "/usr/bin:/bin", "RELAY_DATA_DIR": str(folder / "data"), "PORT": str(port)}
    log = folder / "log"
    with log.open("w") as output:
        up = subprocess.Popen(
            [RELAY, "up"],
            cwd=CHECKOUT,
            env={**environment, "METRICS_PORT": str(free_port())},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + START_S
        while "Relay is running" not in log.read_text():
            assert up.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield RunningRelay(f"http://127.0.0.1:{port}", environment)
    finally:
        up.send_signal(signal.SIGINT)
        try:
            up.wait(timeout=45)
        finally:
            up.kill()
            shutil.rmtree(folder, ignore_errors=True)
