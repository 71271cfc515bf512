"""PgBouncer in transaction mode before a Postgres, as docs/postgres.md sets it up, with few sessions for many clients."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from relay.processes import Command, spawn_options
from relay.up.development import free_port
from relay.up.embedded import postgres_refusal

EXECUTABLE = "/usr/sbin/pgbouncer"
START_S = 20.0


@contextmanager
def pgbouncer(postgres_url: str, *, sessions: int, **options: str) -> Iterator[str]:
    """Run one whose clients share that many sessions of Postgres; yield its URL."""
    assert Path(EXECUTABLE).exists(), "Debian's pgbouncer is not installed"
    target = urlsplit(postgres_url)
    port = free_port()
    database = (
        f"host={target.hostname} port={target.port} dbname={target.path[1:]} user={target.username}"
        f" password={target.password or ''}"
    )
    lines = {
        "listen_addr": "127.0.0.1",
        "listen_port": str(port),
        "unix_socket_dir": "",
        "auth_type": "any",
        "pool_mode": "transaction",
        "max_client_conn": "200",
        "default_pool_size": str(sessions),
        "server_login_retry": "1",
        "log_connections": "0",
        "log_disconnections": "0",
        **options,
    }
    folder = Path(tempfile.mkdtemp(prefix="relay-pgbouncer-"))
    ini = folder / "pgbouncer.ini"
    ini.write_text("\n".join(["[databases]", f"relay = {database}", "[pgbouncer]", *map(" = ".join, lines.items())]))
    nobody = pwd.getpwnam("nobody")
    run_as = (nobody.pw_uid, nobody.pw_gid) if os.geteuid() == 0 else None
    if run_as:
        for path in (folder, ini):
            os.chown(path, *run_as)
    command = Command("pgbouncer", (EXECUTABLE, str(ini)), folder, {"PATH": "/usr/bin:/bin"}, run_as=run_as)
    log = folder / "log"
    with log.open("ab") as output:
        process = subprocess.Popen(command.argv, stdout=output, stderr=output, **spawn_options(command))
    url = f"postgresql://relay@127.0.0.1:{port}/relay"
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
