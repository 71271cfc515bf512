"""Folders for the servers of tests, in memory where there is plenty: each test's database is a thousand new files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import disk_usage, rmtree

from relay.processes import exists

_MEMORY = Path("/dev/shm")
_PLENTY = 4 << 30
_PREFIX = "relay-tests-"


@contextmanager
def server_folder() -> Iterator[Path]:
    """Lend a folder that other users can pass through, as Postgres does when root runs the tests."""
    place = _MEMORY if _MEMORY.is_dir() and disk_usage(_MEMORY).free > _PLENTY else Path(tempfile.gettempdir())
    _remove_left_overs(place)
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=place))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        rmtree(folder, ignore_errors=True)


def _remove_left_overs(place: Path) -> None:
    """What a run that was killed has left would stay in memory until the machine ends."""
    for old in place.glob(f"{_PREFIX}*"):
        if not exists(old.name.removeprefix(_PREFIX).partition("-")[0]):
            rmtree(old, ignore_errors=True)
