"""PgBouncer in transaction mode before a Postgres, as docs/postgres.md sets it up, with few sessions for many clients."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from configparser import ConfigParser
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from relay.processes import Command, spawn_options
from relay.up.development import free_port
from relay.up.embedded import postgres_refusal
from tests.documents import ROOT, blocks_of

PAGE = ROOT / "docs" / "postgres.md"
EXECUTABLE = "/usr/sbin/pgbouncer"
START_S = 20.0


@contextmanager
def pgbouncer(postgres_url: str, *, sessions: int) -> Iterator[str]:
    """Run one whose clients share that many sessions of Postgres; yield its URL."""
    assert Path(EXECUTABLE).exists(), "Debian's pgbouncer is not installed"
    target = urlsplit(postgres_url)
    port = free_port()
    folder = Path(tempfile.mkdtemp(prefix="relay-pgbouncer-"))
    (folder / "userlist.txt").write_text(f'"{target.username}" "{target.password}"\n')
    ini = ConfigParser(interpolation=None)
    ini.read_string(next(block.text for block in blocks_of(PAGE) if block.language == "ini"))
    ini["databases"]["relay"] = f"host={target.hostname} port={target.port} dbname={target.path[1:]}"
    changes = {
        "listen_port": str(port),
        "auth_file": str(folder / "userlist.txt"),
        "default_pool_size": str(sessions),
        "log_connections": "0",
        "log_disconnections": "0",
    }
    ini["pgbouncer"].update(changes)
    path = folder / "pgbouncer.ini"
    with path.open("w") as file:
        ini.write(file)
    nobody = pwd.getpwnam("nobody")
    run_as = (nobody.pw_uid, nobody.pw_gid) if os.geteuid() == 0 else None
    if run_as:
        for owned in (folder, *folder.iterdir()):
            os.chown(owned, *run_as)
    command = Command("pgbouncer", (EXECUTABLE, str(path)), folder, {"PATH": "/usr/bin:/bin"}, run_as=run_as)
    log = folder / "log"
    with log.open("ab") as output:
        process = subprocess.Popen(command.argv, stdout=output, stderr=output, **spawn_options(command))
    url = f"postgresql://{target.username}:{target.password}@127.0.0.1:{port}/relay"
    try:
        _await(url, process, log)
        yield url
    finally:
        process.kill()
        process.wait(10)
        print(log.read_text()[-3000:])
        shutil.rmtree(folder, ignore_errors=True)


def _await(url: str, process: subprocess.Popen[Any], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while (reason := postgres_refusal(url)) is not None:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, reason
        time.sleep(0.05)
