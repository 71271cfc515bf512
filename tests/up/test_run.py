"""`relay up` as a user meets it: real processes, real signals, its own folder, ports that nobody else uses."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import psycopg
import pytest

from relay.up.data_folder import embedded_urls, open_folder, recall
from relay.up.development import free_port

RELAY = Path(sys.executable).parent / "relay"
DEADLINE_S = 30.0
PAGE = """
import http.server, os, sys
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(os.environ["DATABASE_URL"].encode())
    def log_message(self, *_):
        pass
http.server.HTTPServer(("127.0.0.1", int(os.environ[sys.argv[1]])), Page).serve_forever()
"""


class Running:
    """A `relay up` in the background whose lines can be waited for."""

    def __init__(self, folder: Path, **environment: str) -> None:
        kept = {"PATH": "/usr/bin:/bin", "PORT": str(free_port()), "METRICS_PORT": str(free_port())}
        self.environment = {**kept, **environment}
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [RELAY, "up"], cwd=folder, env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()
        self._reader.join(timeout=DEADLINE_S)
        if self.process.stdout is not None:
            self.process.stdout.close()

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, text: str) -> None:
        """Wait until a line holds this text."""
        wait_until(lambda: any(text in line for line in self.lines) or self.process.poll() is not None)
        assert any(text in line for line in self.lines), self.output

    def stop(self) -> int:
        """Ctrl-C, and the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=DEADLINE_S)

    def _read(self) -> None:
        if self.process.stdout is not None:
            self.lines.extend(line.rstrip("\n") for line in iter(self.process.stdout.readline, ""))


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def descendants(pid: int) -> set[int]:
    """Every process that comes from this one, itself left out."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found: set[int] = set()
    while more := {child for child, parent in parents.items() if parent in found | {pid}} - found:
        found |= more
    return found


def alive(pids: set[int]) -> set[int]:
    """Those of them that still run: a zombie does not."""
    running: set[int] = set()
    for pid in pids:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                running.add(pid)
        except OSError:
            continue
    return running


@pytest.fixture
def folder() -> Iterator[Path]:
    """A working directory that Postgres's own user can pass through, with stand-ins for web and worker."""
    path = Path(tempfile.mkdtemp(prefix="relay-up-"))
    path.chmod(0o755)
    (path / "page.py").write_text(PAGE)
    (path / "Procfile").write_text("# stand-ins\nweb: python page.py PORT\nworker: python page.py METRICS_PORT\n")
    yield path
    shutil.rmtree(path)


def test_it_starts_says_so_in_one_block_and_ctrl_c_stops_all(folder: Path) -> None:
    with Running(folder) as relay:
        relay.wait_for("Ctrl-C here stops everything")
        port = relay.environment["PORT"]
        assert f"Relay is running: http://127.0.0.1:{port}" in relay.output
        assert f"curl -s http://127.0.0.1:{port}/api/v1/events" in relay.output
        assert f"RELAY_DATA_DIR={folder}" not in relay.output
        assert f"{RELAY} listen" in relay.output
        started = descendants(relay.process.pid)
        assert len(started) > 4
        assert relay.stop() == 0
        assert alive(started) == set()
        assert embedded_urls(folder / ".relay") == {}


def test_a_second_start_keeps_the_data_and_the_signing_key(folder: Path) -> None:
    with Running(folder) as relay:
        relay.wait_for("Ctrl-C here")
        key = (folder / ".relay" / "signing_key").read_text()
        with psycopg.connect(embedded_urls(folder / ".relay")["DATABASE_URL"]) as conn:
            conn.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    with Running(folder) as relay:
        relay.wait_for("Ctrl-C here")
        with psycopg.connect(embedded_urls(folder / ".relay")["DATABASE_URL"]) as conn:
            assert conn.execute("SELECT answer FROM kept").fetchone() == (42,)
    assert (folder / ".relay" / "signing_key").read_text() == key
    assert (folder / ".relay" / "signing_key").stat().st_mode & 0o077 == 0
    assert (folder / ".relay" / "state.json").stat().st_mode & 0o077 == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_kill_9_leaves_no_process_and_the_next_start_works(folder: Path) -> None:
    with Running(folder) as relay:
        relay.wait_for("Ctrl-C here")
        started = descendants(relay.process.pid)
        relay.process.kill()
        relay.process.wait()
        wait_until(lambda: not alive(started))
    with Running(folder) as relay:
        relay.wait_for("Ctrl-C here")


def test_after_a_power_cut_a_stale_pid_file_does_not_stop_it(folder: Path) -> None:
    with Running(folder) as relay:
        relay.wait_for("Ctrl-C here")
    pid_file = folder / ".relay" / "postgres" / "postmaster.pid"
    pid_file.write_text(f"{os.getpid()}\n{pid_file.parent}\n0\n0\n\n127.0.0.1\n")
    with Running(folder) as relay:
        relay.wait_for("Ctrl-C here")


def test_killed_children_are_started_again(folder: Path) -> None:
    with Running(folder) as relay:
        relay.wait_for("Ctrl-C here")
        before = descendants(relay.process.pid)
        for pid in before:
            with contextlib.suppress(ProcessLookupError):  # its parent's end was enough
                os.kill(pid, signal.SIGKILL)
        relay.wait_for("postgres was ended by SIGKILL; starting it again")
        url = embedded_urls(folder / ".relay")["DATABASE_URL"]
        wait_until(lambda: _answers(url))
        wait_until(lambda: len(descendants(relay.process.pid) - before) >= 4)


def test_a_second_ctrl_c_does_not_wait_for_a_process_that_will_not_end(folder: Path) -> None:
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    (folder / "page.py").write_text(stubborn + PAGE)
    with Running(folder) as relay:
        relay.wait_for("Ctrl-C here")
        relay.process.send_signal(signal.SIGINT)
        relay.wait_for("stopping; once more")
        began = time.monotonic()
        assert relay.stop() == 0
        assert time.monotonic() - began < 10


def test_a_data_folder_in_use_is_refused(folder: Path) -> None:
    with open_folder(folder / ".relay"):
        assert "another `relay up` is using" in refused(folder)


def test_a_taken_port_is_refused(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        refusal = refused(folder, PORT=port)
    assert refusal == f"relay: PORT: {port} is taken by another program; set PORT to a free one."


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"DATABASE_URL": "postgresql://u:secret@127.0.0.1:1/x"}, "DATABASE_URL: no answer from 127.0.0.1"),
        ({"DATABASE_URL": "mysql://127.0.0.1/x"}, "DATABASE_URL: must be a URL that starts with postgresql://"),
        ({"REDIS_URL": "redis://:secret@127.0.0.1:1/0"}, "REDIS_URL: no answer from 127.0.0.1"),
        ({"HOST": "0.0.0.0"}, "HOST: with AUTH_ENABLED=false"),
        ({"HOST": "192.0.2.1", "AUTH_ENABLED": "true"}, "HOST, PORT: cannot listen on 192.0.2.1"),
        ({"SIGNING_KEY": "short"}, "SIGNING_KEY:"),
        ({"PORT": "http"}, "PORT:"),
        ({"RELAY_DATA_DIR": "/dev/null/x"}, "RELAY_DATA_DIR: /dev/null/x cannot be used"),
    ],
)
def test_what_is_wrong_is_told_in_one_sentence(folder: Path, environment: dict[str, str], sentence: str) -> None:
    refusal = refused(folder, **environment)
    assert refusal.startswith(f"relay: {sentence}")
    assert "secret" not in refusal
    assert len(refusal.splitlines()) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives Postgres to another user")
def test_root_below_a_private_folder_keeps_postgres_where_its_user_can_reach_it(folder: Path) -> None:
    folder.chmod(0o700)
    with Running(folder) as relay:
        relay.wait_for("Ctrl-C here")
        home = Path(recall(folder / ".relay")["postgres_home"])
    assert home.is_relative_to("/var/lib/relay")
    assert (home / "postgres" / "PG_VERSION").exists()
    shutil.rmtree(home)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives Postgres to another user")
def test_a_database_that_its_user_cannot_reach_any_more_is_not_replaced_by_an_empty_one(folder: Path) -> None:
    (folder / ".relay" / "postgres").mkdir(parents=True)
    folder.chmod(0o700)
    assert "holds a database, but no user except root can reach it" in refused(folder)


def _answers(url: str) -> bool:
    try:
        with psycopg.connect(url, connect_timeout=2):
            return True
    except psycopg.OperationalError:
        return False


def refused(folder: Path, **environment: str) -> str:
    """What a start that is refused says; it exits with 1 and leaves nothing."""
    with Running(folder, **environment) as relay:
        assert relay.process.wait(timeout=DEADLINE_S) == 1
    return relay.output
