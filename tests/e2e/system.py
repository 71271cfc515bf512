"""Relay as an operator runs it: `relay up` with keys asked for, two web processes and two workers of their own."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from relay.up.data_folder import embedded_urls
from relay.up.development import free_port
from tests.folders import server_folder

BIN = Path(sys.executable).parent
CHECKOUT = Path(__file__).parents[2]
START_S = 60.0
STOP_S = 60.0
#: Counting is done every 2 s, and less often where it takes long: never more than 2 % of a worker's time.
COUNTED_S = 60.0


def wait_until(condition: Callable[[], object], timeout_s: float = 20.0, *, what: str) -> None:
    """Wait until the condition holds; fail after the deadline."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s} s"
        time.sleep(0.02)


class System:
    """A `relay up` in a folder of its own, on ports that nobody else uses."""

    def __init__(self, folder: Path, *, workers: int, **settings: str) -> None:
        self.port, metrics_port = free_port(), free_port()
        self.url, self.metrics_url = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{metrics_port}"
        self.data_dir = folder / "data"
        self.signing_key, self.signing_key_previous = folder / "signing-key", folder / "signing-key-previous"
        self.set_signing_keys(
            "the first signing key, which only tests use", previous="the second one, which only tests use"
        )
        # No HOME, no language, nothing of whoever runs the tests: only what is said here.
        self.environment = {
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(CHECKOUT),
            "RELAY_DATA_DIR": str(self.data_dir),
            "PORT": str(self.port),
            "METRICS_PORT": str(metrics_port),
            "SIGNING_KEY_FILE": str(self.signing_key),
            "SIGNING_KEY_PREVIOUS_FILE": str(self.signing_key_previous),
            "AUTH_ENABLED": "true",
            "WEB_CONCURRENCY": "2",
            "WORKER_PROCESSES": "1",
            **settings,
        }
        self._log = folder / "log"
        (folder / "Procfile").write_text(_procfile(workers))
        with self._log.open("w") as output:
            self.process = subprocess.Popen(
                [BIN / "relay", "up"], cwd=folder, env=self.environment, stdout=output, stderr=subprocess.STDOUT
            )

    def await_start(self) -> None:
        """Wait for the block that says that everything runs."""
        wait_until(lambda: "Relay is running" in self.log() or self.process.poll() is not None, START_S, what="a start")
        assert self.process.poll() is None, self.log()

    def set_signing_keys(self, key: str, *, previous: str) -> None:
        """Write the files that processes read when they start, as those of a mounted secret."""
        self.signing_key.write_text(key)
        self.signing_key_previous.write_text(previous)

    def swap_signing_keys(self) -> None:
        """Make the previous key the one that seals, for processes that start from now on."""
        self.set_signing_keys(self.signing_key_previous.read_text(), previous=self.signing_key.read_text())

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def relay(self, *arguments: str, **environment: str) -> str:
        """Run a `relay` command to its good end and return what it printed."""
        done = subprocess.run(
            [BIN / "relay", *arguments],
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def new_key(self, tenant: str, *options: str) -> dict[str, str]:
        """Make an API key, and the client if it is new, as `relay apikey create --json` tells of it."""
        return json.loads(self.relay("apikey", "create", "--tenant", tenant, "--json", *options))

    @property
    def database_url(self) -> str:
        return self.environment.get("DATABASE_URL") or embedded_urls(self.data_dir)["DATABASE_URL"]

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def masters(self, word: str) -> list[psutil.Process]:
        """The children of `relay up` itself whose command line holds this word."""
        children = psutil.Process(self.process.pid).children()
        return [child for child in children if any(word in part for part in child.cmdline())]

    def stop(self) -> int:
        """Ctrl-C, and the exit code; by force if it does not obey."""
        try:
            self.process.send_signal(signal.SIGINT)
            return self.process.wait(STOP_S)
        finally:
            self.process.kill()


def _procfile(workers: int) -> str:
    """What the checkout's Procfile starts, from anywhere, and more than one worker."""
    home = shlex.quote(str(CHECKOUT))
    config = shlex.quote(str(CHECKOUT / "deploy" / "gunicorn.conf.py"))
    web = f"web: gunicorn --chdir {home} --config {config} api.app:app"
    names = ["worker", *(f"worker{n}" for n in range(2, workers + 1))]
    return "\n".join([web, *(f"{name}: relay worker" for name in names)])


@contextmanager
def running_system(*, workers: int = 2, **settings: str) -> Iterator[System]:
    """Run a system until the end of the block; it must log no trace of our code, and end in order."""
    with server_folder() as folder:
        system = System(folder, workers=workers, **settings)
        try:
            system.await_start()
            yield system
            assert "Traceback" not in system.log()
        finally:
            code = system.stop()
            print(system.log()[-10_000:])
    assert code == 0
