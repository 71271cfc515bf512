"""A new user's first minute, on a copy of the checkout with nothing but `make` and Python: `make run`, then the lines it
prints, pasted as they are. The packages come from the network, so this is a `system` test.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from relay.up.data_folder import recall
from relay.up.development import free_port
from tests.e2e.client import Client
from tests.e2e.signatures import assert_signed
from tests.e2e.system import CHECKOUT, wait_until
from tests.sink import Sink

pytestmark = pytest.mark.system

START_S = 180.0
STOP_S = 60.0
NOBODY = 65534
IS_ROOT = os.geteuid() == 0
STORY = "query($id: ID!) { event(id: $id) { status } }"


class NewUser:
    """Somebody with a fresh copy of the checkout; a user id that is not their own takes root to become."""

    def __init__(self, checkout: Path, *, user: int | None = None) -> None:
        self.checkout, self.user = checkout, user
        self.port = free_port()
        _copy_checkout(checkout)
        if user is not None:
            for path in (checkout, *checkout.rglob("*")):
                os.chown(path, user, user, follow_symlinks=False)

    @property
    def postgres_home(self) -> Path:
        """Where root keeps Postgres when nobody else can reach the checkout: a part of the data folder."""
        return Path(recall(self.checkout / ".relay").get("postgres_home", self.checkout))

    def start(self, *argv: str, output: Any = subprocess.PIPE) -> subprocess.Popen[str]:
        """Start a command as `env -i PATH=/usr/bin:/bin PORT=…` would, in a session of its own, as a terminal has one."""
        become: dict[str, Any] = (
            {} if self.user is None else {"user": self.user, "group": self.user, "extra_groups": []}
        )
        return subprocess.Popen(
            argv,
            cwd=self.checkout,
            env={"PATH": "/usr/bin:/bin", "PORT": str(self.port)},
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            **become,
        )

    def paste(self, line: str) -> str:
        """Run a line in a second terminal to its good end."""
        shell = self.start("sh", "-c", line)
        printed, _ = shell.communicate(timeout=60)
        assert shell.returncode == 0, printed
        return printed


def _copy_checkout(target: Path) -> None:
    """Copy what is committed, or would be."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("this is no git checkout")
    for name in filter(None, listed.stdout.split("\0")):
        if (CHECKOUT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, target / name)


@pytest.fixture(params=["below a private home", "as uid 65534"])
def new_user(request: pytest.FixtureRequest) -> Iterator[NewUser]:
    folder = Path(tempfile.mkdtemp(prefix="relay-make-run-"))
    private = request.param == "below a private home"
    folder.chmod(0o700 if private else 0o755)
    as_nobody = request.param == "as uid 65534"
    if as_nobody and not IS_ROOT:
        pytest.skip("only root can become somebody else")
    user = NewUser(folder / "relay", user=NOBODY if as_nobody else None)
    yield user
    home = user.postgres_home
    for place in (home, folder):
        shutil.rmtree(place, ignore_errors=True)
    assert home.is_relative_to(folder) is not (private and IS_ROOT)


def printed_steps(text: str) -> list[str]:
    """The indented lines between "Try it" and how to stop."""
    block = text.partition("Try it")[2].partition("Ctrl-C")[0]
    return [line.strip() for line in block.splitlines() if line.startswith("  ")]


def servers(processes: list[psutil.Process]) -> set[Path]:
    """The executables of the Postgres and the Valkey among these processes."""
    found = {Path(process.exe()) for process in processes if process.is_running()}
    return {path for path in found if re.match(r"postgres|valkey", path.name)}


def test_make_run_and_the_pasted_lines_show_a_signed_event(new_user: NewUser, tmp_path: Path) -> None:
    log = tmp_path / "log"
    began = time.monotonic()
    with log.open("w") as output, new_user.start("make", "run", output=output) as run, Sink() as sink:
        try:
            wait_until(
                lambda: "Ctrl-C here stops" in log.read_text() or run.poll() is not None, START_S, what="a start"
            )
            assert run.poll() is None, log.read_text()
            print(f"the first start took {time.monotonic() - began:.1f} s")
            family = psutil.Process(run.pid).children(recursive=True)
            assert len(servers(family)) == 2
            for path in servers(family):
                assert path.is_relative_to(new_user.checkout) or path.is_relative_to(new_user.postgres_home), path
            first_minute(new_user, printed_steps(log.read_text()), sink)
            os.killpg(run.pid, signal.SIGINT)
            run.wait(STOP_S)
            _, left = psutil.wait_procs(family, timeout=5)
            assert left == []
        finally:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)
            print(log.read_text())


def first_minute(new_user: NewUser, steps: list[str], sink: Sink) -> None:
    """Paste the printed lines: listen, send, ask. A second endpoint gets the event too, to verify it independently."""
    client = Client(f"http://127.0.0.1:{new_user.port}")
    endpoint = client.endpoint(sink.url())
    listen, send, why = steps
    with new_user.start("sh", "-c", listen) as listening:
        assert listening.stdout is not None
        assert "Listening on" in listening.stdout.readline()
        event = json.loads(new_user.paste(send))["id"]
        shown = listening.stdout.readline()
        assert f"event {event}" in shown
        assert "\N{CHECK MARK} webhook-signature" in shown
        assert "\N{CHECK MARK} X-Relay-Signature" in shown
        os.killpg(listening.pid, signal.SIGINT)
        assert "Traceback" not in listening.stdout.read()  # to its end
    wait_until(lambda: len(sink.arrivals) == 1, what="the arrival")
    assert_signed(sink.arrivals[0], endpoint.secret)
    wait_until(lambda: client.data(STORY, id=event)["event"]["status"] == "DELIVERED", what="the record")
    story = new_user.paste(why.replace("EVENT_ID", event))
    assert "It arrived everywhere it should." in story
    assert json.loads(new_user.paste(why.replace("EVENT_ID", event) + " --json"))["event"]["status"] == "DELIVERED"
    assert [made["id"] for made in client.data("{ endpoints { nodes { id } } }")["endpoints"]["nodes"]] == [endpoint.id]
