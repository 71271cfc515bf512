"""Debian's Postgres 15, the oldest that Relay supports, for tests that need that one or its TLS."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psycopg

from relay.processes import Command, spawn_options
from relay.up.development import free_port

EXECUTABLES = Path("/usr/lib/postgresql/15/bin")


@contextmanager
def debian_postgres(
    options: Mapping[str, str], *, equip: Callable[[Path], None] = lambda _: None, query: str = ""
) -> Iterator[str]:
    """Run one and yield the URL of its maintenance database; `equip` may change its data folder before the start."""
    assert EXECUTABLES.exists(), "Debian's postgresql-15 is not installed"
    nobody = pwd.getpwnam("nobody")
    run_as = (nobody.pw_uid, nobody.pw_gid) if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="relay-postgres-15-"))
    if run_as:
        os.chown(folder, *run_as)
    port = free_port()
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    initdb = (str(EXECUTABLES / "initdb"), "-D", str(folder / "data"), "-U", "relay", "--auth=trust", "--no-sync")
    spawn = spawn_options(Command("initdb", initdb, folder, environment, run_as=run_as))
    subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, **spawn)
    equip(folder / "data")
    if run_as:
        for path in (folder / "data").iterdir():
            os.chown(path, *run_as)
    server = [str(EXECUTABLES / "postgres"), "-D", str(folder / "data"), "-p", str(port), "-k", str(folder)]
    for name, value in {"listen_addresses": "127.0.0.1", "fsync": "off", **options}.items():
        server += ["-c", f"{name}={value}"]
    process = subprocess.Popen(server, stderr=subprocess.DEVNULL, **spawn)
    url = f"postgresql://relay@127.0.0.1:{port}/postgres{query}"
    try:
        _wait_for(url)
        yield url
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            psycopg.connect(url, connect_timeout=2).close()
        except psycopg.OperationalError:
            assert time.monotonic() < deadline, "Postgres 15 did not start"
            time.sleep(0.05)
        else:
            return
