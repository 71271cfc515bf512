"""Relay's SQL on the oldest Postgres it supports: Debian's 15, started here, with the tests that talk to Postgres most."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.debian import debian_postgres

CHECKOUT = Path(__file__).resolve().parent.parent
TALKATIVE = ("tests/intake", "tests/delivery/test_live.py", "tests/delivery/test_lanes.py", "tests/delivery/test_record.py",
             "tests/insight", "tests/test_partitions.py")  # fmt: skip

#: Says nothing more about a version, and takes long.
LONG = "--ignore=tests/insight/test_speed.py"

pytestmark = pytest.mark.system


def test_what_talks_to_postgres_passes_on_postgres_15() -> None:
    inner = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "not system", LONG, *TALKATIVE]
    with debian_postgres({"max_connections": "200"}) as url:
        done = subprocess.run(
            inner,
            cwd=CHECKOUT,
            env={**os.environ, "DATABASE_URL": url},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
