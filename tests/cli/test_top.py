"""`relay top`: what it says, how it draws, and that the terminal is given back however it ends."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from fcntl import ioctl
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from graphql import build_schema, parse, validate

from api.graphql.schema import sdl
from relay.cli.main import main
from relay.cli.rates import Rates
from relay.cli.screen import draw, whole_screen
from relay.cli.terminal import Paint
from relay.cli.top import TOP
from relay.cli.top_page import lines, painted
from tests.cli.conftest import RELAY

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
TIER = {"ready": 1200, "held": 3, "delayed": 40, "delivering": 17, "oldestAgeSeconds": 0.85}
IDLE = {"ready": 0, "held": 0, "delayed": 0, "delivering": 0, "oldestAgeSeconds": 0.0}
BAD = {
    "endpointId": "e",
    "url": "https://a.example/\x1b[31mhook",
    "attempts": 140,
    "failedAttempts": 123,
    "circuit": "OPEN",
}


def seen(**changed: Any) -> dict[str, Any]:
    activity = {
        "since": "2026-03-01T11:58:00Z",
        "asOf": "2026-03-01T12:00:00Z",
        "created": 1200,
        "delivered": 600,
        "dead": 6,
        "attempts": 723,
        "failedAttempts": 123,
        "circuits": 1,
        "workers": 2,
        "webProcesses": 3,
        "high": TIER,
        "normal": IDLE,
        "low": IDLE,
        "failing": [BAD],
    }
    queue = {**TIER, "pending": 1260, "dead": 14, "asOf": "2026-03-01T11:59:58Z"}
    return {"queueStats": queue, "activity": {**activity, **changed}}


def page(told: dict[str, Any], *, size: tuple[int, int] = (80, 24), trouble: str = "") -> list[str]:
    rates = Rates().take(told["activity"])
    return [text for text, _ in lines(told, rates, size=size, now=NOW, url="http://relay", trouble=trouble)]


def test_a_page_says_what_waits_moves_and_fails() -> None:
    told = page(seen())
    assert told[0] == "Relay http://relay  counted 2 s ago"
    assert told[1] == "dead letters 14   circuits not closed 1   workers 2   web processes 3"
    assert "new 10.0/s   delivered 5.0/s   failed 1.0/s   died 0.1/s" in told
    assert next(line.split() for line in told if line.startswith("high")) == [
        "high",
        "1,200",
        "3",
        "40",
        "17",
        "850",
        "ms",
    ]
    assert next(line.split() for line in told if line.startswith("low")) == ["low", "0", "0", "0", "0", "-"]
    assert told[-1].split(maxsplit=5) == [
        "123",
        "140",
        "88",
        "%",
        "open",
        "https://a.example/\N{REPLACEMENT CHARACTER}[31mhook",
    ]


def test_a_client_is_told_of_no_processes_and_an_idle_system_of_no_failures() -> None:
    told = page(seen(workers=None, webProcesses=None, failing=[]))
    assert "workers" not in told[1]
    assert told[-1] == "No attempt failed in the last 5 minutes."


@pytest.mark.parametrize("size", [(20, 5), (40, 10), (80, 24), (200, 60)])
def test_a_page_fits_any_terminal(size: tuple[int, int]) -> None:
    told = page(seen(failing=[BAD] * 50), size=size, trouble="No Relay answers.")
    assert len(told) <= size[1]
    assert max(map(len, told)) <= size[0]
    assert told[1] == "No Relay answers."


def test_rates_are_differences_of_the_last_ten_seconds() -> None:
    rates = Rates()
    told = seen()["activity"]
    assert rates.take(told)["created"] == 10
    for second in range(2, 40, 2):
        at = {"asOf": f"2026-03-01T12:00:{second:02}Z", "created": 1200 + 50 * second}
        assert rates.take({**told, **at})["created"] == 50
        assert rates.take({**told, **at})["created"] == 50
    # 34 s is the last look that is ten seconds old at 45 s; and at 55 s nothing has happened since 45 s.
    assert rates.take({**told, "asOf": "2026-03-01T12:00:45Z", "created": 3100})["created"] == pytest.approx(200 / 11)
    assert rates.take({**told, "asOf": "2026-03-01T12:00:55Z", "created": 3100})["created"] == 0


def test_colours_are_for_terminals_that_want_some(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    shown = [("a", "red"), ("b", "")]
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert painted(shown, Paint(Terminal())) == ["\x1b[31ma\x1b[0m", "b"]
    monkeypatch.setenv("NO_COLOR", "1")
    assert painted(shown, Paint(Terminal())) == ["a", "b"]


def test_a_crash_gives_the_terminal_back() -> None:
    stream = io.StringIO()

    def crash() -> None:
        with whole_screen(stream):
            draw(stream, ["a", "b"])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        crash()
    assert stream.getvalue().startswith("\x1b[?1049h\x1b[?25l")
    assert "\x1b[Ha\x1b[K\r\nb\x1b[K\x1b[J" in stream.getvalue()
    assert stream.getvalue().endswith("\x1b[?25h\x1b[?1049l")


def test_the_query_fits_the_served_schema() -> None:
    assert validate(build_schema(sdl()), parse(TOP)) == []


@pytest.mark.parametrize("wrong", ["0", "x", "nan", "-1", "1e9"])
def test_an_interval_that_makes_no_sense_is_wrong_use(wrong: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["top", f"--interval={wrong}"])
    assert ended.value.code == 2


# ---- in a terminal ---------------------------------------------------------------------------------------------------


class Scripted:
    """Something that answers as Relay does, or not."""

    def __init__(self) -> None:
        self.status = 200
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                status = scripted.status
                away = {"error": {"code": "UNAVAILABLE", "message": "Away."}}
                body = {"data": seen()} if status == 200 else away
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def relay() -> Iterator[Scripted]:
    scripted = Scripted()
    thread = threading.Thread(target=scripted.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield scripted
    scripted.server.shutdown()
    scripted.server.server_close()
    thread.join()


class Terminal:
    """A `relay top` in a terminal of its own, and all it wrote."""

    def __init__(self, url: str, *arguments: str) -> None:
        self.master, slave = pty.openpty()
        self.resize(80, 24)
        environment = {"PATH": "/usr/bin:/bin", "RELAY_URL": url, "TERM": "xterm"}
        argv = [str(RELAY), "top", *arguments]
        self.process = subprocess.Popen(
            argv, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
        )
        os.close(slave)
        self.written = ""

    def resize(self, columns: int, rows: int) -> None:
        ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read_until(self, pattern: str) -> str:
        """Read on until what was written matches; return all since the last time."""
        fresh, deadline = "", time.monotonic() + 20
        while not re.search(pattern, fresh, re.DOTALL):
            assert time.monotonic() < deadline, fresh
            if select.select([self.master], [], [], 0.1)[0]:
                fresh += self._read()
            elif self.process.poll() is not None:
                pytest.fail(f"ended: {fresh}")
        self.written += fresh
        return fresh

    def rest(self) -> str:
        """What was written until the end."""
        fresh = ""
        while part := self._read():
            fresh += part
        self.written += fresh
        return fresh

    def _read(self) -> str:
        try:
            return os.read(self.master, 65536).decode(errors="replace")
        except OSError:
            return ""


@contextmanager
def top(url: str, *arguments: str) -> Iterator[Terminal]:
    terminal = Terminal(url, *arguments)
    try:
        yield terminal
    finally:
        terminal.process.kill()
        terminal.process.wait()
        os.close(terminal.master)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_it_draws_follows_the_size_survives_an_outage_and_gives_the_terminal_back(
    relay: Scripted, end: signal.Signals
) -> None:
    with top(relay.url, "--interval", "0.2") as terminal:
        first = terminal.read_until(r"hook.*\x1b\[J")
        assert first.startswith("\x1b[?1049h")
        assert first.count("\x1b[2J") == 1
        assert "\x1b[31m" in first
        terminal.read_until(r"\x1b\[HRelay|\x1b\[H\x1b\[\d+mRelay")
        relay.status = 503
        terminal.read_until(r"Away\. Trying again")
        relay.status = 200
        terminal.resize(30, 8)
        narrow = terminal.read_until(r"\x1b\[J.*\x1b\[H((?!Away|\x1b\[J).)*…((?!Away|\x1b\[J).)*\x1b\[J")
        frame = narrow.split("\x1b[H")[-1]
        assert max(len(re.sub(r"\x1b\[[\d;?]*[a-zA-Z]|\r", "", line)) for line in frame.split("\n")) <= 30
        assert frame.count("\n") < 8
        terminal.process.send_signal(end)
        assert terminal.rest().endswith("\x1b[?25h\x1b[?1049l")
        assert terminal.process.wait(10) == 0
    assert "\x1b[2J" not in terminal.written.partition("\x1b[2J")[2]


def test_once_prints_one_frame_or_one_object_and_ends(relay: Scripted, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", "--once", "--url", relay.url]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"Relay {relay.url}")
    assert "\x1b" not in out
    assert main(["top", "--once", "--json", "--url", relay.url]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["rates"]["created"] == 10
    assert told["activity"]["failing"] == [BAD]


def test_without_a_terminal_it_prints_on_and_a_first_failure_is_one_sentence(relay: Scripted) -> None:
    with subprocess.Popen(
        [RELAY, "top", "--json", "--interval", "0.2"], env={"RELAY_URL": relay.url}, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert [json.loads(process.stdout.readline())["queueStats"]["dead"] for _ in range(2)] == [14, 14]
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
    relay.status = 503
    with top(relay.url) as terminal:
        assert terminal.process.wait(20) == 1
        assert terminal.rest() == "relay: Away.\r\n"
