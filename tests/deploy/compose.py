"""The Compose file as Docker Compose's own binary reads it. `.ci/run` installs the binary; without it tests fail."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.deploy.dockerfile import ROOT

FILE = ROOT / "docker-compose.yml"
BINARY = ROOT / ".tools" / "docker-compose"


def compose(*words: str, file: Path = FILE, tag: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the binary on this file."""
    assert BINARY.exists(), "Docker Compose is not installed: run .ci/run"
    argv = [BINARY, "--file", file, "--project-directory", ROOT, *words]
    plain = {"PATH": os.defpath, "HOME": "/nonexistent", **({} if tag is None else {"RELAY_TAG": tag})}
    return subprocess.run(argv, env=plain, capture_output=True, text=True, timeout=30, check=False)


def rendered(*, tag: str | None = None) -> dict[str, Any]:
    """What Compose makes of the file: merged, filled in, in full."""
    done = compose("config", "--format", "json", tag=tag)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def seconds(duration: str) -> float:
    """A duration as Compose prints it, like 1m30s."""
    units = {"h": 3600.0, "m": 60.0, "s": 1.0}
    total, number = 0.0, ""
    for sign in duration:
        if sign in units:
            total, number = total + float(number) * units[sign], ""
        else:
            number += sign
    return total
