"""What the system under test uses beside CPU: memory by process group, statements of Postgres, commands of Redis.

Of a system that somebody else started nothing is known but what its servers tell, where their addresses are known.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg
import redis

from bench import cpu
from bench.system import System

_SAMPLE_EVERY_S = 2.0
_MIB = 2**20
#: What asking costs is none of Relay's commands.
_OWN_COMMANDS = frozenset({"info", "hello", "auth", "select", "ping", "client|setinfo", "client|setname"})
_STATEMENTS = """SELECT sum(calls)::bigint FROM pg_stat_statements AS s
    JOIN pg_database AS d ON d.oid = s.dbid AND d.datname = %s"""


@dataclass(frozen=True, slots=True)
class Memory:
    """MiB at one moment, by process group as the kernel shares it out (PSS), and by Redis's own books (None: unknown)."""

    at_s: float
    by_group: dict[str, float]
    redis: float | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """Counters at one moment, all of them since the servers' start."""

    memory: Memory
    cpu_s: dict[str, float]
    statements: int | None
    commands: int | None
    #: MiB, the most that Redis has ever held.
    redis_peak: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Used:
    """What a stretch of time used, between two readings."""

    seconds: float = 0.0
    #: Seconds of CPU by process group.
    cpu_s: dict[str, float] = field(default_factory=dict[str, float])
    statements: int | None = None
    commands: int | None = None
    #: MiB by process group.
    memory_end: dict[str, float] = field(default_factory=dict[str, float])
    memory_peak: dict[str, float] = field(default_factory=dict[str, float])
    redis_peak: float | None = None


def reading(system: System) -> Reading:
    """Ask the kernel and the servers."""
    memory, commands, peak = _redis_books(system)
    return Reading(
        Memory(time.monotonic(), _by_group(system), memory), system.cpu_used(), _statements(system), commands, peak
    )


def between(before: Reading, after: Reading, samples: Sequence[Memory] = ()) -> Used:
    """What was used from one reading to the other; of the samples those count that were taken meanwhile."""
    within = [one for one in samples if before.memory.at_s <= one.at_s <= after.memory.at_s]
    seen = [before.memory, *within, after.memory]
    return Used(
        seconds=after.memory.at_s - before.memory.at_s,
        cpu_s=cpu.spent(before.cpu_s, after.cpu_s),
        statements=_less(after.statements, before.statements),
        commands=_less(after.commands, before.commands),
        memory_end=after.memory.by_group,
        memory_peak={name: max(one.by_group.get(name, 0.0) for one in seen) for name in after.memory.by_group},
        redis_peak=_redis_peak(before, after, seen),
    )


@contextlib.contextmanager
def sampled(system: System) -> Iterator[list[Memory]]:
    """Lend a list that grows by a sample every two seconds for the time of a block."""
    samples, over = list[Memory](), threading.Event()

    def sample() -> None:
        while not over.wait(_SAMPLE_EVERY_S):
            samples.append(Memory(time.monotonic(), _by_group(system), _redis_books(system)[0]))

    thread = threading.Thread(target=sample, name="bench-samples", daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        over.set()
        thread.join()


def _redis_peak(before: Reading, after: Reading, seen: Sequence[Memory]) -> float | None:
    """Exact where Redis has never held more, otherwise the largest sample."""
    if before.redis_peak is None or after.redis_peak is None:
        return None
    if after.redis_peak > before.redis_peak:
        return after.redis_peak
    return max(one.redis for one in seen if one.redis is not None)


def _less(after: int | None, before: int | None) -> int | None:
    return None if after is None or before is None else after - before


def _by_group(system: System) -> dict[str, float]:
    if system.pid is None:
        return {}
    supervisor = psutil.Process(system.pid)
    groups, held = dict[int, str](), {cpu.SUPERVISOR: _mib(supervisor)}
    for one in supervisor.children(recursive=True):  # parents before their children
        with contextlib.suppress(psutil.NoSuchProcess):
            groups[one.pid] = group = groups.get(one.ppid()) or cpu.group_of(one)
            held[group] = held.get(group, 0.0) + _mib(one)
    return held


def _mib(process: psutil.Process) -> float:
    """The process's share of the memory it maps; all of it where the kernel tells no shares."""
    try:
        rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii")
        return next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) / 1024
    except (OSError, StopIteration):
        with contextlib.suppress(psutil.Error):
            return process.memory_info().rss / _MIB
        return 0.0


def _statements(system: System) -> int | None:
    """Statements that Relay's database has run, BEGIN and COMMIT included; what asks runs in another database."""
    if system.statements_url is None or system.database_url is None:
        return None
    database = system.database_url.rpartition("/")[2]
    with psycopg.connect(system.statements_url) as conn:
        row = conn.execute(_STATEMENTS, (database,)).fetchone()
    return row[0] if row else None


def _redis_books(system: System) -> tuple[float | None, int | None, float | None]:
    """MiB held, commands run (those inside scripts included), and the most MiB ever held."""
    if system.redis_url is None:
        return None, None, None
    with contextlib.closing(redis.Redis.from_url(system.redis_url)) as client:
        memory: dict[str, int] = client.info("memory")
        by_command: dict[str, dict[str, int]] = client.info("commandstats")
    commands = sum(
        one["calls"] for name, one in by_command.items() if name.removeprefix("cmdstat_") not in _OWN_COMMANDS
    )
    return memory["used_memory"] / _MIB, commands, memory["used_memory_peak"] / _MIB
