"""Debian's Postgres 15, the oldest that Relay supports, for tests that need that one, its tools or its TLS."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from relay.processes import Command, spawn_options
from relay.up.development import free_port
from relay.up.embedded import postgres_refusal
from tests.e2e.system import wait_until
from tests.folders import server_folder

EXECUTABLES = Path("/usr/lib/postgresql/15/bin")
START_S = 30.0


class DebianPostgres:
    """A cluster below `folder`, run by a user without rights where root runs the tests."""

    def __init__(self, folder: Path, *, query: str = "") -> None:
        assert EXECUTABLES.exists(), "Debian's postgresql-15 is not installed"
        nobody = pwd.getpwnam("nobody")
        self.run_as = (nobody.pw_uid, nobody.pw_gid) if os.geteuid() == 0 else None
        self.folder, self.data, self.port = folder, folder / "main", free_port()
        if self.run_as:
            os.chown(folder, *self.run_as)
        server = f"postgresql://relay@127.0.0.1:{self.port}"
        self.url, self.maintenance = f"{server}/relay{query}", f"{server}/postgres{query}"
        self.environment = {"PATH": f"{EXECUTABLES}:/usr/bin:/bin", "LC_ALL": "C.UTF-8", "DATABASE_URL": self.url}
        self.process: subprocess.Popen[Any] | None = None
        self.run(f"initdb -D {self.data} -U relay --auth=trust --no-sync --no-instructions --wal-segsize=1")

    def run(self, script: str, **environment: str) -> str:
        """Run lines of a shell as the cluster's user to their good end; return what they printed."""
        argv = ("bash", "-euo", "pipefail", "-c", script)
        options = spawn_options(Command("sh", argv, self.folder, self.environment | environment, run_as=self.run_as))
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60, **options)
        assert done.returncode == 0, script + done.stdout + done.stderr
        return done.stdout

    def write(self, path: Path, text: str) -> None:
        """Append to a file of the cluster's user."""
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
        if self.run_as:
            os.chown(path, *self.run_as)

    def start(self, **options: str) -> None:
        """Start the server with these options and wait until it answers."""
        argv = [str(EXECUTABLES / "postgres"), "-D", str(self.data), "-p", str(self.port), "-k", str(self.folder)]
        given = {"listen_addresses": "127.0.0.1", "fsync": "off", "max_connections": "100", **options}
        argv += [word for name, value in given.items() for word in ("-c", f"{name}={value}")]
        spawning = spawn_options(Command("postgres", tuple(argv), self.folder, self.environment, run_as=self.run_as))
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(argv, stdout=log, stderr=log, **spawning)
        wait_until(lambda: postgres_refusal(self.maintenance) is None, START_S, what="Postgres")
        with psycopg.connect(self.maintenance, autocommit=True) as conn:
            if conn.execute("SELECT FROM pg_database WHERE datname = 'relay'").fetchone() is None:
                conn.execute("CREATE DATABASE relay")

    def stop(self) -> None:
        """Stop it in good order, whoever is connected."""
        if self.process is not None:
            self.process.send_signal(2)
            self.process.wait(20)
            self.process = None

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")


@contextmanager
def debian_cluster(*, query: str = "") -> Iterator[DebianPostgres]:
    """Lend a cluster that is not started yet; `query` is the end of its URLs."""
    with server_folder() as folder:
        cluster = DebianPostgres(folder, query=query)
        try:
            yield cluster
        finally:
            cluster.stop()


@contextmanager
def debian_postgres(
    options: Mapping[str, str], *, equip: Callable[[Path], None] = lambda _: None, query: str = ""
) -> Iterator[str]:
    """Run one and yield the URL of its maintenance database; `equip` may change its data folder before the start."""
    with debian_cluster(query=query) as cluster:
        equip(cluster.data)
        if cluster.run_as:
            for path in cluster.data.iterdir():
                os.chown(path, *cluster.run_as)
        cluster.start(**options)
        yield cluster.maintenance
