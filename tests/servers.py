"""Postgres and Valkey of one test's own, to be stopped, killed and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import psycopg

from relay.processes import Command, spawn_options
from relay.up.development import free_port
from relay.up.embedded import Server, postgres_refusal, prepare_postgres, prepare_valkey, redis_refusal
from tests.folders import server_folder

START_S = 30.0
#: Not safe against a power cut, which no test makes; asynchronous commits are lost by a crash all the same.
QUICK = {"fsync": "off", "full_page_writes": "off", "wal_writer_delay": "1000ms", "max_connections": "100"}


class OwnServer:
    """A server process that this test may do anything to."""

    def __init__(self, server: Server, refusal: Callable[[], str | None]) -> None:
        self.server, self._refusal = server, refusal
        self.start()

    def start(self) -> None:
        """Start it, again if need be, and wait until it answers: Postgres waits for what is left of its last life."""
        deadline = time.monotonic() + START_S
        self.process = self._spawn()
        while self._refusal() is not None:
            assert time.monotonic() < deadline, self._refusal()
            if self.process.poll() is not None:
                self.process = self._spawn()
            time.sleep(0.05)

    def _spawn(self) -> subprocess.Popen[Any]:
        command = self.server.command
        return subprocess.Popen(
            command.argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **spawn_options(command)
        )

    def signal(self, what: signal.Signals) -> None:
        self.process.send_signal(what)

    def kill(self) -> None:
        """End it with all its children, as a crash does."""
        if self.process.poll() is None:
            family = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
            for member in family:
                with suppress(psutil.NoSuchProcess):  # a child that just ended by itself
                    member.kill()
            self.process.wait(10)
            psutil.wait_procs(family, timeout=10)


@contextmanager
def own_valkey() -> Iterator[OwnServer]:
    """Run a Valkey."""
    with server_folder() as folder:
        server = prepare_valkey(folder)
        running = OwnServer(server, lambda: redis_refusal(server.url))
        try:
            yield running
        finally:
            running.signal(signal.SIGCONT)
            running.kill()


@contextmanager
def own_postgres() -> Iterator[OwnServer]:
    """Run a Postgres with an empty database."""
    with server_folder() as folder:
        server = prepare_postgres(folder, options=QUICK)
        maintenance = server.url.rpartition("/")[0] + "/postgres"
        running = OwnServer(server, lambda: postgres_refusal(maintenance))
        try:
            with psycopg.connect(maintenance, autocommit=True) as conn:
                conn.execute("CREATE DATABASE relay")
            yield running
        finally:
            running.kill()


@contextmanager
def standby_of(primary: OwnServer) -> Iterator[OwnServer]:
    """Run a hot standby that streams from this Postgres."""
    command = primary.server.command
    with server_folder() as folder:
        place = folder / "standby"
        place.mkdir(mode=0o700)
        if command.run_as:
            os.chown(place, *command.run_as)
        basebackup = (str(Path(command.argv[0]).with_name("pg_basebackup")), "-d", primary.server.url, "-D", str(place),
                      "--write-recovery-conf", "--checkpoint=fast", "--no-sync")  # fmt: skip
        subprocess.run(basebackup, check=True, **spawn_options(replace(command, argv=basebackup)))
        port = free_port()
        moved = {cluster_of(command): str(place), f"port={urlsplit(primary.server.url).port}": f"port={port}"}
        argv = tuple(moved.get(argument, argument) for argument in command.argv)
        url = primary.server.url.replace(f":{urlsplit(primary.server.url).port}/", f":{port}/")
        server = Server(replace(command, argv=argv), url)
        running = OwnServer(server, lambda: postgres_refusal(url))
        try:
            yield running
        finally:
            running.signal(signal.SIGCONT)
            running.kill()


def cluster_of(command: Command) -> str:
    """The data folder of a Postgres."""
    return command.argv[command.argv.index("-D") + 1]


def of_both(primary: OwnServer, standby: OwnServer) -> str:
    """The URL that names both."""
    port = urlsplit(standby.server.url).port
    before, _, name = primary.server.url.rpartition("/")
    return f"{before},127.0.0.1:{port}/{name}"
