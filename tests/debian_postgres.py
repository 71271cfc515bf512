"""Debian's Postgres 15 in a folder of one's own: with its tools, and as its user, to be copied and started elsewhere."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from relay.processes import Command, spawn_options
from relay.up.development import free_port
from relay.up.embedded import postgres_refusal
from tests.e2e.system import wait_until

EXECUTABLES = Path("/usr/lib/postgresql/15/bin")
START_S = 30.0


class DebianPostgres:
    """A cluster below `folder`, run by a user without rights where root runs the tests."""

    def __init__(self, folder: Path) -> None:
        assert EXECUTABLES.exists(), "Debian's postgresql-15 is not installed"
        nobody = pwd.getpwnam("nobody")
        self.run_as = (nobody.pw_uid, nobody.pw_gid) if os.geteuid() == 0 else None
        self.folder, self.data, self.port = folder, folder / "main", free_port()
        if self.run_as:
            os.chown(folder, *self.run_as)
        self.url = f"postgresql://relay@127.0.0.1:{self.port}/relay"
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

    def start(self) -> None:
        """Start the server and wait until it answers."""
        argv = (str(EXECUTABLES / "postgres"), "-D", str(self.data), "-p", str(self.port), "-k", str(self.folder),
                "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "max_connections=100")  # fmt: skip
        options = spawn_options(Command("postgres", argv, self.folder, self.environment, run_as=self.run_as))
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(argv, stdout=log, stderr=log, **options)
        maintenance = self.url.removesuffix("/relay") + "/postgres"
        wait_until(lambda: postgres_refusal(maintenance) is None, START_S, what="Postgres")
        with psycopg.connect(maintenance, autocommit=True) as conn:
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
def debian_postgres() -> Iterator[DebianPostgres]:
    """A cluster that is not started yet."""
    folder = Path(tempfile.mkdtemp(prefix="relay-postgres-15-"))
    folder.chmod(0o755)
    server = DebianPostgres(folder)
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
