"""The receiver and the generator as child processes of the benchmark; they end when it does, however it does."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import urllib3

from bench.plan import Plan
from bench.records import Arrivals, Sent, unpack_arrivals, unpack_sent
from relay.processes import Command, spawn_options

CHECKOUT = Path(__file__).resolve().parent.parent
ANY_PORT = "http://127.0.0.1:0"
_LOOPBACK = ("127.0.0.1", "localhost")


class ProgramFailed(Exception):
    """A part of the benchmark itself did not run."""


@dataclass(frozen=True, slots=True)
class Receiver:
    """A running receiver, asked over HTTP."""

    port: int
    pid: int
    _http: urllib3.PoolManager
    #: How the system under test calls this machine.
    host: str = "127.0.0.1"

    def url(self, endpoint: int) -> str:
        """Where this endpoint's deliveries go."""
        return f"http://{self.host}:{self.port}/e/{endpoint}"

    def url_aside(self, endpoint: int) -> str:
        """Where what goes to this endpoint is answered and not recorded."""
        return f"http://{self.host}:{self.port}/aside/{endpoint}"

    def release(self, name: str) -> None:
        """Answer what is held under this name, and hold nothing under it any more."""
        self._page(f"release/{name}")

    def fail(self, name: str) -> None:
        """Refuse what is failing under this name, from now on."""
        self._page(f"fail/{name}")

    def heal(self, name: str) -> None:
        """Refuse nothing under this name any more."""
        self._page(f"heal/{name}")

    def refused(self, name: str) -> int:
        """How many requests were refused while this name was failing."""
        return int(self._page(f"refused/{name}"))

    def count(self) -> int:
        """How many requests have come in so far."""
        return int(self._page("count"))

    def arrivals(self) -> Arrivals:
        """All that came in."""
        return unpack_arrivals(self._page("records"))

    def cpu_s(self) -> float:
        """Seconds of CPU that it has used."""
        times = psutil.Process(self.pid).cpu_times()
        return times.user + times.system

    def _page(self, name: str) -> bytes:
        return self._http.request("GET", f"http://127.0.0.1:{self.port}/{name}").data


@dataclass(frozen=True, slots=True)
class Generated:
    """What a run of the generator came to."""

    sent: Sent
    cpu_s: float
    #: Requests by HTTP status, or by what there was instead of one.
    statuses: dict[str, int]
    #: By how many ms its requests left after they were due, where they had a rate.
    late: Mapping[str, float] = field(default_factory=dict[str, float])


@contextlib.contextmanager
def receiving(*, swallow: int = 0, swap: int = 0, at: str = ANY_PORT) -> Iterator[Receiver]:
    """Lend a receiver that is ready; `at` is how the system under test calls it, a port of 0 is any free one."""
    called = urlsplit(at)
    host = called.hostname or "127.0.0.1"
    listens = "127.0.0.1" if host in _LOOPBACK else "0.0.0.0"
    faults = ("--swallow", str(swallow), "--swap", str(swap))
    command = _command("receiver", *faults, "--host", listens, "--port", str(called.port or 0))
    with subprocess.Popen(command.argv, stdout=subprocess.PIPE, text=True, **spawn_options(command)) as process:
        assert process.stdout is not None
        try:
            port = process.stdout.readline()
            if not port:
                raise ProgramFailed("The receiver did not start; what it wrote stands above.")
            yield Receiver(int(port), process.pid, urllib3.PoolManager(retries=False, timeout=30.0), host)
        finally:
            process.terminate()


def generated(plan: Plan) -> Generated:
    """Run the generator to its end."""
    command = _command("generator")
    given = json.dumps(asdict(plan)).encode()
    done = subprocess.run(command.argv, input=given, stdout=subprocess.PIPE, check=False, **spawn_options(command))
    if done.returncode != 0:
        raise ProgramFailed("The generator failed; what it wrote stands above.")
    head, _, records = done.stdout.partition(b"\n")
    return Generated(unpack_sent(records), **json.loads(head))


def _command(module: str, *arguments: str) -> Command:
    argv = (sys.executable, "-m", f"bench.{module}", *arguments)
    return Command(module, argv, CHECKOUT, os.environ)
