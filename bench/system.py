"""The system under test: all of Relay, started by `relay up` with production's defaults, or one that already runs."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg
import redis

from bench import cpu
from bench.adapter import Adapter, of_relay
from bench.programs import CHECKOUT, ProgramFailed
from relay.cli.api_client import Client
from relay.processes import Command, spawn_options
from relay.settings import read_settings
from relay.up.data_folder import embedded_urls
from relay.up.development import as_in_production, free_port, is_given, with_defaults
from relay.up.embedded import prepare_postgres

_RELAY = Path(sys.executable).parent / "relay"
_READY = "Relay is running:"
_START_TIMEOUT_S = 90.0
_STOP_TIMEOUT_S = 45.0
_LAST_LINES = 30
_PLACES = {"database_url", "redis_url", "signing_key", "signing_key_previous", "egress_proxy"}
_TO_COME = {"DATABASE_URL": "postgresql://", "REDIS_URL": "redis://", "SIGNING_KEY": "x" * 32}


@dataclass(frozen=True, slots=True)
class System:
    """A running Relay; `pid` is that of its `relay up`, and its servers are known, where the benchmark started it."""

    url: str
    key: str
    pid: int | None = None
    database_url: str | None = None
    redis_url: str | None = None
    #: Where `pg_stat_statements` can be read: known of an embedded Postgres.
    statements_url: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    versions: Mapping[str, str] = field(default_factory=dict[str, str])
    #: How to send events where it is no Relay at all.
    foreign: Adapter | None = None

    def adapter(self, way: str) -> Adapter:
        """How events are sent to it: to a Relay this way, to any other system the one way there is."""
        return self.foreign or of_relay(way, url=self.url, key=self.key)

    def client(self) -> Client:
        """A client with the benchmark's key."""
        return Client(self.url, key=self.key)

    def is_fanned_out(self) -> bool:
        """Whether every event has its deliveries; of a system that somebody else started it is taken for granted."""
        if self.database_url is None:
            return True
        with psycopg.connect(self.database_url) as conn:
            return conn.execute("SELECT 1 FROM outbox LIMIT 1").fetchone() is None

    def cpu_used(self) -> dict[str, float]:
        """Seconds of CPU by process group; of a system that somebody else started those of all processes it is known by."""
        if self.foreign and self.foreign.pids:
            return {"total": sum(cpu.used_by_tree(psutil.Process(pid)) for pid in self.foreign.pids)}
        return {} if self.pid is None else cpu.used(self.pid)


@contextlib.contextmanager
def started(**settings: str) -> Iterator[System]:
    """Start everything in a folder of its own, lend it, stop it; the folder stays when the block fails.

    `settings` go before what the environment says.
    """
    folder = Path(tempfile.mkdtemp(prefix="relay-bench-"))
    folder.chmod(0o755)  # Postgres's own user passes through
    environment = {**_environment(folder), **settings}
    command = Command("relay", (str(_RELAY), "up"), CHECKOUT, environment)
    statements_url = _count_statements(folder, environment)
    log = folder / "relay.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command.argv, stdout=output, stderr=output, **spawn_options(command))
    try:
        _wait_until_ready(process, log)
        urls = {**embedded_urls(folder), **environment}
        _open_books(statements_url)
        yield System(
            f"http://127.0.0.1:{environment['PORT']}",
            _make_key(environment),
            process.pid,
            database_url=urls["DATABASE_URL"],
            redis_url=urls["REDIS_URL"],
            statements_url=statements_url,
            settings=_settings(environment),
            versions=_server_versions(urls),
        )
    except BaseException:
        _stop(process)
        print(f"The system's log and data are kept in {folder}", file=sys.stderr)
        raise
    _stop(process)
    shutil.rmtree(folder, ignore_errors=True)


def _environment(folder: Path) -> dict[str, str]:
    ports = {"PORT": str(free_port()), "METRICS_PORT": str(free_port())}
    return {**as_in_production(os.environ), **ports, "RELAY_DATA_DIR": str(folder)}


def _count_statements(folder: Path, environment: Mapping[str, str]) -> str | None:
    """Have the embedded Postgres count its statements; return where it will tell how many, None of another Postgres."""
    if is_given(environment, "DATABASE_URL"):
        return None
    server = prepare_postgres(folder)
    argv = server.command.argv
    with (Path(argv[argv.index("-D") + 1]) / "postgresql.conf").open("a", encoding="utf-8") as configuration:
        configuration.write("\nshared_preload_libraries = 'pg_stat_statements'\n")
    return server.url.rpartition("/")[0] + "/postgres"


def _open_books(statements_url: str | None) -> None:
    if statements_url is not None:
        with psycopg.connect(statements_url, autocommit=True) as conn:
            conn.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")


def _settings(environment: Mapping[str, str]) -> dict[str, Any]:
    """The settings in force, those aside that name places or secrets."""
    return read_settings({**_TO_COME, **with_defaults(environment)}).model_dump(mode="json", exclude=_PLACES)


def _wait_until_ready(process: subprocess.Popen[Any], log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while _READY not in (text := log.read_text(encoding="utf-8", errors="replace")):
        if process.poll() is not None or time.monotonic() > deadline:
            last = "\n".join(text.splitlines()[-_LAST_LINES:])
            raise ProgramFailed(f"`relay up` did not get ready. Its last lines:\n{last}")
        time.sleep(0.05)


def _make_key(environment: Mapping[str, str]) -> str:
    argv = [str(_RELAY), "apikey", "create", "--tenant", "bench", "--json"]
    made = subprocess.run(argv, env=environment, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        raise ProgramFailed(f"`relay apikey create` failed: {made.stderr.strip()}")
    return json.loads(made.stdout)["key"]


def _server_versions(urls: Mapping[str, str]) -> dict[str, str]:
    with psycopg.connect(urls["DATABASE_URL"]) as conn:
        postgres = conn.info.parameter_status("server_version") or "unknown"
    with contextlib.closing(redis.Redis.from_url(urls["REDIS_URL"])) as client:
        about: dict[str, str] = client.info("server")
    return {"postgres": postgres, "valkey": about.get("valkey_version") or about["redis_version"]}


def _stop(process: subprocess.Popen[Any]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(timeout=_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
