"""Relay's SQL on the oldest Postgres it supports: Debian's 15, started here, with the tests that talk to Postgres most."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from relay.processes import Command, spawn_options

EXECUTABLES = Path("/usr/lib/postgresql/15/bin")
CHECKOUT = Path(__file__).resolve().parent.parent
TALKATIVE = ("tests/intake", "tests/delivery/test_live.py", "tests/delivery/test_lanes.py", "tests/delivery/test_record.py",
             "tests/insight", "tests/test_partitions.py")  # fmt: skip

pytestmark = pytest.mark.system


@pytest.fixture
def oldest_postgres() -> Iterator[str]:
    """The URL of a Postgres 15 in a temporary folder."""
    assert EXECUTABLES.exists(), "Debian's postgresql-15 is not installed"
    nobody = pwd.getpwnam("nobody")
    run_as = (nobody.pw_uid, nobody.pw_gid) if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="relay-postgres-15-"))
    if run_as:
        os.chown(folder, *run_as)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    initdb = (str(EXECUTABLES / "initdb"), "-D", str(folder / "data"), "-U", "relay", "--auth=trust", "--no-sync")
    options = spawn_options(Command("initdb", initdb, folder, environment, run_as=run_as))
    subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, **options)
    server = (str(EXECUTABLES / "postgres"), "-D", str(folder / "data"), "-p", str(port), "-k", str(folder),
              "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "max_connections=200")  # fmt: skip
    process = subprocess.Popen(
        server,
        stderr=subprocess.DEVNULL,
        **spawn_options(Command("postgres", server, folder, environment, run_as=run_as)),
    )
    url = f"postgresql://relay@127.0.0.1:{port}/postgres"
    wait_for(url)
    yield url
    process.terminate()
    process.wait(10)
    shutil.rmtree(folder, ignore_errors=True)


def wait_for(url: str) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            psycopg.connect(url, connect_timeout=2).close()
        except psycopg.OperationalError:
            assert time.monotonic() < deadline, "Postgres 15 did not start"
            time.sleep(0.05)
        else:
            return


def test_what_talks_to_postgres_passes_on_postgres_15(oldest_postgres: str) -> None:
    inner = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "not system", *TALKATIVE]
    done = subprocess.run(
        inner,
        cwd=CHECKOUT,
        env={**os.environ, "DATABASE_URL": oldest_postgres},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
