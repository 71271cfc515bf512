"""Makes .venv from the hashed lock: once, and again only when the lock or pyproject.toml changed.

    python3 scripts/setup.py run|dev

`run` is what Relay needs, `dev` adds the tools and tests. Needs Python 3.11 with venv, nothing else; a second run
needs no network. Works without HOME, as root and as anybody.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LOCKS = {"run": "requirements.lock", "dev": "requirements-dev.lock"}


def main() -> int:
    """Set up one of the two kinds; return the exit code."""
    kind = sys.argv[1] if len(sys.argv) > 1 else "run"
    if kind not in LOCKS:
        sys.stderr.write("usage: python3 scripts/setup.py run|dev\n")
        return 2
    if sys.version_info < (3, 11):  # noqa: UP036 - this file is what tells an older Python
        sys.stderr.write(f"Relay needs Python 3.11 or later; {sys.executable} is {sys.version.split()[0]}.\n")
        return 1
    try:
        VENV.mkdir(exist_ok=True)
        with (VENV / ".setup.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not is_current(kind):
                install(kind)
    except (OSError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"The set-up failed: {error}\n")
        return 1
    return 0


def is_current(kind: str) -> bool:
    """Whether .venv was made from this lock and this pyproject.toml, at this place; `dev` holds all that `run` does."""
    if not (VENV / "bin" / "python").exists():  # the Python it was made with is gone
        return False
    return any(stamp(one).exists() and stamp(one).read_text() == fingerprint(one) for one in {kind, "dev"})


def stamp(kind: str) -> Path:
    """The file that tells what .venv was made from."""
    return VENV / f".made-from-{kind}"


def fingerprint(kind: str) -> str:
    """A hash of all that decides what is in .venv; a moved checkout needs a new one, its scripts name their place."""
    parts = (str(VENV).encode(), (ROOT / LOCKS[kind]).read_bytes(), (ROOT / "pyproject.toml").read_bytes())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def install(kind: str) -> None:
    """Make the environment, install the lock's packages, checked by their hashes, and then this checkout, editable."""
    for one in LOCKS:
        stamp(one).unlink(missing_ok=True)
    print(f"Setting up {VENV.name} ({LOCKS[kind]}) ...", flush=True)
    make_environment()
    python = str(VENV / "bin" / "python")
    pip = [python, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    uv = VENV / "bin" / "uv"
    if not uv.exists():
        subprocess.run([*pip, "install", *caching("--no-cache-dir"), "uv"], check=False, env=environment())
    lock = ["--no-deps", "--require-hashes", "-r", str(ROOT / LOCKS[kind])]
    project = ["--no-deps", "--no-build-isolation", "-e", str(ROOT)]
    for arguments in (lock, project):
        fast = [str(uv), "pip", "install", "--quiet", "--python", python, *caching("--no-cache"), *arguments]
        if not uv.exists() or subprocess.run(fast, check=False, env=environment()).returncode != 0:
            print("uv did not manage; trying pip ...", flush=True)
            subprocess.run([*pip, "install", *caching("--no-cache-dir"), *arguments], check=True, env=environment())
    stamp(kind).write_text(fingerprint(kind))


def make_environment() -> None:
    """Make .venv, unless one that works is there already."""
    pip = VENV / "bin" / "pip"
    if pip.exists() and subprocess.run([pip, "--version"], check=False, capture_output=True).returncode == 0:
        return
    try:
        venv.create(VENV, with_pip=True, symlinks=True)
    except subprocess.CalledProcessError as cause:
        raise OSError("python3 has no ensurepip; install your system's python3-venv package") from cause


def caching(switch: str) -> list[str]:
    """The switch that turns the cache off, where there is no home to keep one in."""
    home = os.environ.get("HOME", "")
    return [] if home and os.access(home, os.W_OK | os.X_OK) else [switch]


def environment() -> dict[str, str]:
    """The installers' environment: the system's certificates, this machine's Python, whatever else the user set."""
    defaults = {"UV_SYSTEM_CERTS": "1", "UV_PYTHON_DOWNLOADS": "never", "UV_LINK_MODE": "copy"}
    return {**defaults, **os.environ, "VIRTUAL_ENV": str(VENV)}


if __name__ == "__main__":
    sys.exit(main())
