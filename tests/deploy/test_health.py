"""The health check's script, asked about real processes: what each page says, and where it asks."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy import health
from relay.settings import Settings
from relay.up.development import free_port
from tests.deploy.dockerfile import ROOT
from tests.running import Running, environment, until, worker

WEB = [str(Path(sys.executable).parent / "gunicorn"), "--config", "deploy/gunicorn.conf.py", "api.app:app"]


def ask(*words: str, **environ: object) -> int:
    """The exit code of the script, run as a container's engine runs it."""
    argv = [sys.executable, "deploy/health.py", *words]
    given = {name: str(value) for name, value in environ.items()}
    done = subprocess.run(argv, cwd=ROOT, env=os.environ | given, capture_output=True, timeout=20, check=False)
    assert bool(done.stderr) == (done.returncode != 0)
    return done.returncode


@contextmanager
def ended(process: Running) -> Iterator[Running]:
    try:
        yield process
    finally:
        process.kill()


async def test_a_web_process_without_postgres_lives_and_is_not_ready(settings: Settings, tmp_path: Path) -> None:
    port, nothing = free_port(), free_port()
    away = f"postgresql://relay:relay@127.0.0.1:{nothing}/relay"
    given = environment(settings, DATABASE_URL=away, PORT=str(port), WEB_CONCURRENCY="1")
    with ended(Running(WEB, given, tmp_path / "log")):
        await until(lambda: ask("live", "web", PORT=port) == 0, what="a live page")
        assert ask("ready", "web", PORT=port) == 1
        # The image's check does not know what runs in its container; nor does a proxy matter to it.
        proxy = f"http://127.0.0.1:{nothing}"
        assert ask(PORT=port, METRICS_PORT=nothing, HOST="0.0.0.0", http_proxy=proxy) == 0


async def test_a_worker_with_all_it_needs_is_ready(settings: Settings, tmp_path: Path) -> None:
    port, nothing = free_port(), free_port()
    with ended(worker(settings.model_copy(update={"metrics_port": port}), tmp_path / "log")) as process:
        await until(lambda: ask("ready", "worker", METRICS_PORT=port) == 0, what="a ready page")
        assert ask(PORT=nothing, METRICS_PORT=port) == 0
        assert process.stop() == 0
        assert ask(PORT=nothing, METRICS_PORT=port) == 1


@pytest.mark.parametrize("words", [["alive"], ["ready", "api"], ["--help"]])
def test_other_words_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert health.main(words, {}) == 1
    assert capsys.readouterr().err.startswith("usage: ")


@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        ({"METRICS_PORT": "0"}, "METRICS_PORT is 0"),
        ({"METRICS_PORT": "many"}, "no answer on port many"),
        ({"METRICS_PORT": "1", "HOST": "127.0.0.1"}, "no answer on port 1"),
        ({"METRICS_PORT": "1", "HOST": "::"}, "no answer on port 1"),
    ],
)
def test_a_page_that_cannot_be_asked_is_said_in_one_line(environ: dict[str, str], reason: str) -> None:
    refusal = health.refusal_of("worker", "ready", environ)
    assert refusal is not None
    assert reason in refusal
    assert "\n" not in refusal


def test_what_speaks_another_language_is_not_healthy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_speak_another_language, args=(server,))
        thread.start()
        refusal = health.refusal_of("web", "live", {"PORT": str(server.getsockname()[1])})
        thread.join()
    assert refusal is not None
    assert "no answer" in refusal


def _speak_another_language(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(1000)
        connection.sendall(b"220 mail.example ESMTP\r\n")
