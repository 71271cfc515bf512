"""DNS look-ups of our own, for where libcurl makes none: in threads, one at a time for a name, kept for a minute."""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor

_KEPT_S = 60.0  # as libcurl keeps its own
_MOST_KEPT = 10_000
_THREADS = 32


class Lookups:
    """Finds the addresses of names, IPv4 first, since whoever is asked for one by CONNECT knows IPv4 for certain."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="lookup")
        self._known: dict[str, tuple[float, tuple[str, ...]]] = {}
        self._running: dict[str, asyncio.Future[tuple[str, ...]]] = {}

    async def addresses(self, host: str) -> tuple[str, ...]:
        """Return the addresses of a name or a literal address, at least one; OSError if there are none."""
        expires, known = self._known.get(host, (0.0, ()))
        if self._loop.time() < expires:
            return known
        running = self._running.get(host)
        if running is None:
            running = self._running[host] = self._loop.run_in_executor(self._threads, _look_up, host)
            running.add_done_callback(lambda done: self._keep(host, done))
        return await asyncio.shield(running)  # others wait for it too

    def close(self) -> None:
        """Begin no further look-up; those that run end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _keep(self, host: str, done: asyncio.Future[tuple[str, ...]]) -> None:
        self._running.pop(host, None)
        if done.cancelled() or done.exception() is not None:
            return
        if len(self._known) >= _MOST_KEPT:
            self._known.clear()
        self._known[host] = (self._loop.time() + _KEPT_S, done.result())


def _look_up(host: str) -> tuple[str, ...]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except ValueError as cause:  # a NUL, or a label that IDNA does not know
        raise OSError(0, "the name is not valid") from cause
    found.sort(key=lambda one: one[0] != socket.AF_INET)
    return tuple(dict.fromkeys(str(where[0]) for *_, where in found))
