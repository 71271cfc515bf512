"""The faults of a drill, each with what it may cost: how long the way back may take, and whether it may repeat."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from relay.drill.copy import WEBS, WORKERS, Copy
from relay.errors import Unavailable
from relay.redis_clients import Limits, client

#: How long a fault lasts that has a length.
_LASTS_S = 5.0
_DELAY_S = 0.05
_SKEW_S = 90
_RECOVERY_S, _AFTER_FLUSH_S = 30.0, 5.0
_FAKETIME = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib/faketime/libfaketimeMT.so.1")


@dataclass(frozen=True, slots=True)
class Fault:
    """What is done to the copy; it returns when the fault is over and the way back begins.

    `may_repeat`: what was being sent when it struck may come twice, since its outcome was lost with a process.
    """

    name: str
    strike: Callable[[Copy], Awaitable[None]]
    recovery_s: float = _RECOVERY_S
    may_repeat: bool = False
    #: What has to be installed for it, as glob patterns; one of them is enough.
    needs: tuple[str, ...] = ()

    def is_possible(self) -> bool:
        """Whether this machine has what it needs."""
        return not self.needs or _found(self.needs) is not None


async def _kill_a_worker(copy: Copy) -> None:
    copy.crash(WORKERS[0])


async def _kill_all_workers(copy: Copy) -> None:
    for name in WORKERS:
        copy.crash(name)


async def _kill_a_web_service(copy: Copy) -> None:
    copy.crash(WEBS[0])


async def _restart_postgres(copy: Copy) -> None:
    await copy.postgres.stop()
    await copy.postgres.start()


async def _crash_postgres(copy: Copy) -> None:
    await copy.postgres.crash()
    await asyncio.sleep(_LASTS_S)
    await copy.postgres.start()


async def _restart_redis(copy: Copy) -> None:
    await copy.redis.stop()
    await copy.redis.start()


async def _crash_redis(copy: Copy) -> None:
    await copy.redis.crash()
    await asyncio.sleep(_LASTS_S)
    await copy.redis.start()


async def _empty_redis(copy: Copy) -> None:
    await asyncio.to_thread(_command, copy, "FLUSHALL")


async def _fill_redis(copy: Copy) -> None:
    await asyncio.to_thread(_command, copy, "CONFIG", "SET", "maxmemory", "1mb")
    try:
        await asyncio.sleep(_LASTS_S)
    finally:
        await asyncio.to_thread(_command, copy, "CONFIG", "SET", "maxmemory", "0")


async def _cut_connections(copy: Copy) -> None:
    for backend in (copy.postgres, copy.redis):
        backend.proxy.cut()
        await asyncio.sleep(_LASTS_S / 2)
        backend.proxy.mend()


async def _delay_connections(copy: Copy) -> None:
    for backend in (copy.postgres, copy.redis):
        backend.proxy.delay_s = _DELAY_S
    await asyncio.sleep(_LASTS_S)
    for backend in (copy.postgres, copy.redis):
        backend.proxy.delay_s = 0.0


async def _skew_a_clock(copy: Copy) -> None:
    patched = copy.folder / "skewed"
    patched.mkdir(exist_ok=True)
    (patched / "sitecustomize.py").write_text(_SLEEP, encoding="utf-8")
    for offset in (f"+{_SKEW_S}s", f"-{_SKEW_S}s"):
        await copy.stop(WORKERS[0])
        skewed = {"LD_PRELOAD": _found(_FAKETIME) or "", "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        await copy.start(WORKERS[0], **skewed, PYTHONPATH=str(patched))
        await asyncio.sleep(_LASTS_S)
        if copy.deaths(WORKERS[0]):
            raise Unavailable("The worker with the skewed clock ended by itself: this was no fault of a clock.")
    await copy.stop(WORKERS[0])
    await copy.start(WORKERS[0])


async def _deploy(copy: Copy) -> None:
    for name in (*WEBS, *WORKERS):
        await copy.stop(name)
        await copy.start(name)


#: With a monotonic clock that is left alone, libfaketime 0.9.10 refuses each sleep of Python, and the worker would end.
_SLEEP = """import select, time

time.sleep = lambda seconds: select.select([], [], [], seconds) and None
"""


def _command(copy: Copy, *words: str) -> None:
    with client(copy.redis.server.url, Limits(1, timeout_s=5.0)) as connected:
        connected.execute_command(*words)


def _found(patterns: tuple[str, ...]) -> str | None:
    return next((str(path) for pattern in patterns for path in Path("/").glob(pattern.removeprefix("/"))), None)


FAULTS = (
    Fault("kill a worker", _kill_a_worker, may_repeat=True),
    Fault("kill all workers", _kill_all_workers, may_repeat=True),
    Fault("kill a web service", _kill_a_web_service),
    Fault("restart Postgres", _restart_postgres),
    Fault("crash Postgres", _crash_postgres, may_repeat=True),
    Fault("restart Redis", _restart_redis),
    Fault("crash Redis", _crash_redis),
    Fault("empty Redis", _empty_redis, recovery_s=_AFTER_FLUSH_S),
    Fault("fill Redis", _fill_redis),
    Fault("cut connections", _cut_connections),
    Fault("delay connections", _delay_connections),
    Fault("skew a worker's clock", _skew_a_clock, needs=_FAKETIME),
    Fault("rolling deploy", _deploy),
)
