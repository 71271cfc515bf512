"""Pushes the metrics of this service to an OTLP receiver: one of its processes does, for all of them.

The one is whoever holds a file lock in the metrics folder, which the kernel takes away from it when it dies. At its end
every process pushes once more, so that the last of them leaves the receiver with the totals of all.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import time
from contextlib import suppress
from typing import IO

from relay import __version__
from relay.metrics import files, otlp
from relay.metrics.page import families
from relay.otlp_http import OtlpReceiver

EVERY_S = 15.0
_TIMEOUT_S = 5.0
_END_S = 2.0
_LOOK_S = 0.05


class Push:
    """One per process. That the receiver is away is a warning a minute, and nothing else."""

    def __init__(self, endpoint: str, *, service: str, every_s: float = EVERY_S) -> None:
        """`endpoint`: the receiver's URL; without a path, `/v1/metrics` below it."""
        warning = "metrics are not taken by METRICS_ENDPOINT, and wait"
        self._receiver = OtlpReceiver(endpoint, path="/v1/metrics", warning=warning)
        self._every_s = every_s
        self._lock: IO[str] | None = None
        self._since_ns = files.began_ns()
        self._resource = {
            "service.name": service,
            "service.version": __version__,
            "service.instance.id": f"{socket.gethostname()}:{files.FOLDER.name if files.FOLDER else os.getpid()}",
            "host.name": socket.gethostname(),
        }

    async def run(self) -> None:
        """Push every so often, while it is this process's turn, for ever."""
        while True:
            await asyncio.sleep(self._every_s)
            if self._is_ours():
                await asyncio.to_thread(self._push, _TIMEOUT_S)

    async def end(self) -> None:
        """Push what is known now, as soon as no other process does; give that up after 2 s."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_END_S):
                while not self._is_ours():  # noqa: ASYNC110 - it is another process's to give
                    await asyncio.sleep(_LOOK_S)
                await asyncio.to_thread(self._push, _END_S)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _is_ours(self) -> bool:
        if files.FOLDER is None or self._lock is not None:
            return True
        try:
            lock = (files.FOLDER / "push").open("a")
        except OSError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            return False
        self._lock = lock
        return True

    def _push(self, timeout_s: float) -> None:
        try:
            message = otlp.request(families(), resource=self._resource, since_ns=self._since_ns, now_ns=time.time_ns())
        except OSError as cause:  # the metrics folder
            return self._receiver.warn(str(cause))
        self._receiver.post(message.SerializeToString(), timeout_s=timeout_s)
