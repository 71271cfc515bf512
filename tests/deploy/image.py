"""The image without a container engine: the Dockerfile's COPY and RUN carried out in a folder, which then is the root
of processes that have what a container has: their own process 1, no rights, nothing writable but /tmp.

The base image is this Debian. Needs root, `unshare` and the packages' registry, so what uses it is a `system` test.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

from tests.deploy.dockerfile import ROOT, Copy, in_context, read_copy, read_stages

#: Debian's own Python, as it lies below /usr, which the image takes from the machine.
PYTHON = "/usr/bin/python3"
_UV = Path(sys.executable).parent / "uv"
_INSTALL = "python -m pip --python /venv/bin/python install --no-cache-dir"
_FROM_MACHINE = ("usr", "etc", "dev")
_LINKED = ("bin", "lib", "lib64", "sbin")
# As a container's runtime does: no rights, none to be had, a root that is not writable, /proc of its own processes.
_ENTER = """set -e
mount --bind "$1" "$1"
cd "$1"; shift
for one in {mounted}; do mount --rbind /$one $one; mount --make-rslave $one; done
mount -t proc proc proc
mount -t tmpfs -o mode=1777,size=64m tmpfs tmp
mount -o remount,bind,ro .
exec chroot . setpriv --reuid={user} --regid={group} --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all \
    env --chdir={folder} "$@"
"""


class Image:
    """The final stage, laid out in a folder."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "image"
        build, final = read_stages()
        self.final = final
        built = folder / "build"
        for stage, root in ((build, built), (final, self.root)):
            root.mkdir()
            for word, line in stage.instructions:
                if word == "COPY":
                    copy = read_copy(line)
                    _lay(copy, built if copy.stage else ROOT, root)
                elif word == "RUN":
                    _run(line, root)
        _furnish(self.root)

    def argv(self, command: list[str], environment: Mapping[str, str]) -> list[str]:
        """The command line that runs a command as the image's process 1."""
        user, _, group = self.final.one("USER").partition(":")
        script = _ENTER.format(
            mounted=" ".join(_FROM_MACHINE), user=user, group=group, folder=shlex.quote(self.final.one("WORKDIR"))
        )
        settings = [f"{name}={value}" for name, value in {**self.final.environment(), **environment}.items()]
        enter = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script, "sh", str(self.root)]
        return [*enter, "-i", *settings, *command]

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run to the end."""
        argv = self.argv(list(command), environment)
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


class Container:
    """A process of the image that stays; `stop` sends its process 1 what STOPSIGNAL names."""

    def __init__(self, image: Image, command: list[str], environment: Mapping[str, str], log: Path) -> None:
        self.log = log
        with log.open("wb") as output:
            argv = ["setpriv", "--pdeathsig", "KILL", *image.argv(command, environment)]
            self.process = subprocess.Popen(argv, stdout=output, stderr=output)

    def first(self) -> psutil.Process:
        """Its process 1, as this machine sees it."""
        (child,) = psutil.Process(self.process.pid).children()
        return child

    def wait_until(self, condition: Callable[[], Any], timeout_s: float = 60.0) -> None:
        """Wait until the condition holds; fail with what it logged."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert self.process.poll() is None, self.text()
            assert time.monotonic() < deadline, self.text()
            time.sleep(0.05)

    def stop(self, timeout_s: float = 60.0) -> int:
        """Ask it to end, and return its exit code."""
        self.first().terminate()
        return self.process.wait(timeout_s)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def text(self) -> str:
        return self.log.read_text(errors="replace")


def _lay(copy: Copy, source_root: Path, target_root: Path) -> None:
    """Copy as COPY does; from the checkout only what .dockerignore lets through."""
    into = copy.target.endswith("/") or len(copy.sources) > 1
    for source in copy.sources:
        origin = source_root / source.lstrip("/")
        target = target_root / copy.target.lstrip("/")
        if into and origin.is_file():
            target = target / origin.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if origin.is_dir():
            shutil.copytree(origin, target, symlinks=True, ignore=None if copy.stage else _ignored)
        else:
            assert copy.stage or in_context(source), source
            shutil.copy2(origin, target)
            if copy.mode is not None:
                target.chmod(copy.mode)


def _ignored(folder: str, names: list[str]) -> list[str]:
    below = Path(folder).relative_to(ROOT)
    return [name for name in names if not in_context(str(below / name))]


def _run(line: str, root: Path) -> None:
    """Run a RUN with its folders inside `root`; uv stands in for pip where it is there, because it keeps what it had."""
    if _UV.exists() and _INSTALL in line:
        line = line.replace(_INSTALL, f"{_UV} pip install --quiet --python /venv/bin/python")
    line = re.sub(r"(?<=[ =])/(?=(venv|build|app)\b)", f"{root}/", line)
    line = re.sub(r"(^|&& )python ", rf"\1{PYTHON} ", line)
    subprocess.run(["sh", "-ec", line], check=True, timeout=200, stdout=subprocess.DEVNULL)
    for script in (root / "venv" / "bin").iterdir():
        if script.is_file() and not script.is_symlink():  # its first line names the place it was made at
            script.write_bytes(script.read_bytes().replace(f"{root}/venv".encode(), b"/venv"))


def _furnish(root: Path) -> None:
    """What the base image brings: the machine's programs, and empty places to mount."""
    for name in (*_FROM_MACHINE, "proc", "tmp"):
        (root / name).mkdir(exist_ok=True)
    for name in _LINKED:
        if Path("/", name).is_symlink():
            (root / name).symlink_to(f"usr/{name}")
