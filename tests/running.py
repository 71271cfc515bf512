"""Relay's processes as they really run, for tests from the outside: started from the command line, killed by signals."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import LiteralString

import psutil

from relay.db import Conn
from relay.settings import Settings

CHECKOUT = Path(__file__).resolve().parent.parent


def environment(settings: Settings, **changes: str) -> dict[str, str]:
    """The environment that gives a child these settings."""
    given = {
        name.upper(): ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        for name, value in settings.model_dump().items()
    }
    return {**os.environ, **given, "PYTHONPATH": str(CHECKOUT), **changes}


class Running:
    """A process with its children; `kill` is -9 for all of them, as a lost machine is. `home` holds the code it runs."""

    def __init__(self, argv: list[str], env: dict[str, str], log: Path, *, home: Path = CHECKOUT) -> None:
        self.argv, self.env, self.log, self.home = argv, env, log, home
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.argv, env=self.env, cwd=self.home, stdout=output, stderr=output, start_new_session=True
            )

    def family(self) -> list[psutil.Process]:
        parent = psutil.Process(self.process.pid)
        return [*parent.children(recursive=True), parent]

    def cpu_s(self) -> float:
        """Processor seconds used so far."""
        return sum(times.user + times.system for times in (member.cpu_times() for member in self.family()))

    def signal(self, what: signal.Signals) -> None:
        for member in self.family():
            with suppress(psutil.NoSuchProcess):  # a child that just ended by itself
                member.send_signal(what)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.signal(signal.SIGKILL)
            self.process.wait(10)

    def stop(self, timeout_s: float = 40.0) -> int:
        self.process.terminate()
        return self.process.wait(timeout_s)

    def text(self) -> str:
        return self.log.read_text(errors="replace")


def worker(settings: Settings, log: Path, *, processes: int = 1, home: Path = CHECKOUT, **changes: str) -> Running:
    """A worker as `relay worker` starts it."""
    argv = [sys.executable, "-c", "from relay.cli.main import main; main()", "worker"]
    env = environment(settings, WORKER_PROCESSES=str(processes), PYTHONPATH=str(home), **changes)
    return Running(argv, env, log, home=home)


def web(settings: Settings, log: Path, *, processes: int = 1, home: Path = CHECKOUT) -> Running:
    """A web service of that many processes, as the Procfile starts it."""
    argv = [sys.executable, "-m", "gunicorn", "--config", "deploy/gunicorn.conf.py", "api.app:app"]
    return Running(argv, environment(settings, WEB_CONCURRENCY=str(processes), PYTHONPATH=str(home)), log, home=home)


async def until(condition: Callable[[], bool], timeout_s: float = 30.0, *, what: str = "the condition") -> None:
    """Wait until the condition holds; fail after the deadline."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not hold within {timeout_s} s"
        await asyncio.sleep(0.02)


async def until_so(condition: Callable[[], Awaitable[bool]], timeout_s: float = 30.0) -> None:
    """Wait until what the condition awaits is true; fail after the deadline."""
    deadline = time.monotonic() + timeout_s
    while not await condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        await asyncio.sleep(0.05)


async def until_true(conn: Conn, query: LiteralString, timeout_s: float = 30.0) -> None:
    """Wait until the query's one value is true; fail after the deadline."""
    deadline = time.monotonic() + timeout_s
    while not (await (await conn.execute(query)).fetchall())[0][0]:
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {query}"
        await asyncio.sleep(0.02)
