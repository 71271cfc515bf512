"""CPU time of a running system by process group, from the operating system's own books.

A group is one child of `relay up` with all that comes from it. What a process used stays counted after its end: its
parent's books hold it as soon as the parent has waited for it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

import psutil

SUPERVISOR = "relay up"
#: What a figure for the whole system must hold.
SERVING = frozenset({"web", "worker", "postgres", "valkey"})
_NAMES = {"postgres": "postgres", "valkey-server": "valkey", "gunicorn": "web", "actors.dramatiq_master": "worker"}


def used(pid: int) -> dict[str, float]:
    """Seconds of CPU that each group below this `relay up` has used since its start."""
    supervisor = psutil.Process(pid)
    seconds: dict[str, float] = {}
    for child in supervisor.children():
        with contextlib.suppress(psutil.NoSuchProcess):
            name = group_of(child)
            seconds[name] = seconds.get(name, 0.0) + used_by_tree(child)
    times = supervisor.cpu_times()
    return {**seconds, SUPERVISOR: times.user + times.system}


def used_by_tree(root: psutil.Process) -> float:
    """Seconds of CPU that a process, its descendants and those of them that are gone have used."""
    total = 0.0
    for process in (root, *root.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def spent(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Seconds of CPU by group between two readings."""
    return {name: seconds - before.get(name, 0.0) for name, seconds in after.items()}


def by_group(figure: str, cpu_s: Mapping[str, float], *, unit: float) -> dict[str, float]:
    """One figure per process group, and one for all where no group of the system is missing."""
    total = {"total": sum(cpu_s.values())} if cpu_s.keys() >= SERVING else {}
    return {f"{figure}.{name}": seconds / unit for name, seconds in (dict(cpu_s) | total).items()}


def group_of(process: psutil.Process) -> str:
    """Return the name of the group that a child of `relay up` begins, told by what stands in its command line."""
    words = {Path(word).name for word in " ".join(process.cmdline()).split()}  # Valkey's title is a single word
    return next((name for word, name in _NAMES.items() if word in words), process.name())
