"""The files in which the processes of one service share their numbers: one for each process and kind, in FOLDER.

The numbers of processes that are gone are kept, in one file for all of them, so that no total ever falls and no files
pile up; their gauges go. Whoever reads holds a lock, so that nothing is counted twice meanwhile.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prometheus_client.mmap_dict import MmapedDict

from relay.processes import IN_USE, exists

_GIVEN = os.environ.get("PROMETHEUS_MULTIPROC_DIR")  # prometheus_client's own, read by it when it is imported
#: None: this process shares its numbers with nobody.
FOLDER = Path(_GIVEN) if _GIVEN else None
#: The number of no process: what its files hold is of all that are gone.
_GONE = "0"
_IMPORTED_NS = time.time_ns()


def prepare() -> None:
    """Make the folder if it is gone: a master that starts its processes anew may have taken it away."""
    if FOLDER is not None:
        FOLDER.mkdir(mode=0o700, parents=True, exist_ok=True)


def began_ns() -> int:
    """When the counting began, in nanoseconds since 1970: with the service, or else with this process."""
    with suppress(OSError):
        if FOLDER is not None:
            return (FOLDER / IN_USE).stat().st_mtime_ns
    return _IMPORTED_NS


@contextmanager
def reading(folder: Path) -> Iterator[list[str]]:
    """Lend the names of the files that count, those of processes that are gone put together."""
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _finish(folder)
        for file in sorted(folder.glob("*_*.db")):
            kind, pid = file.stem.partition("_")[0], file.stem.rpartition("_")[2]
            if pid != _GONE and not exists(pid):
                if kind == "gauge":
                    file.unlink()
                else:
                    _add(file, to=folder / f"{kind}_{_GONE}.db")
                    _finish(folder)
        for file in folder.glob("cluster_*.json"):
            if not exists(file.stem.rpartition("_")[2]):
                file.unlink(missing_ok=True)
        yield [str(file) for file in folder.glob("*_*.db")]


def _add(file: Path, *, to: Path) -> None:
    """Put down the sum of a file's numbers and of those of another, and decide, by one rename, that it shall count."""
    new = to.with_suffix(".new")
    with suppress(FileNotFoundError):
        new.unlink()
    sums = MmapedDict(str(new))
    try:
        for source in (to, file):
            if source.exists():
                for key, value, _, _ in MmapedDict.read_all_values_from_file(str(source)):
                    sums.write_value(key, sums.read_value(key)[0] + value, 0.0)
    finally:
        sums.close()
    file.rename(file.with_suffix(".added"))


def _finish(folder: Path) -> None:
    """Let a sum that was decided on count instead of its parts; whoever did that may have been killed since."""
    for added in folder.glob("*.added"):
        kind = added.stem.partition("_")[0]
        with suppress(FileNotFoundError):  # it counts already
            (folder / f"{kind}_{_GONE}.new").replace(folder / f"{kind}_{_GONE}.db")
        added.unlink()
