"""The worker process: one event loop that everything of Relay runs on, begun and ended with Dramatiq's worker."""

from __future__ import annotations

import asyncio
import resource
import signal
import socket
from collections.abc import Coroutine
from functools import partial
from typing import Any, TypeVar

import uvloop
from dramatiq import Broker, Middleware
from dramatiq import Worker as DramatiqWorker
from dramatiq.asyncio import EventLoopThread, get_event_loop_thread, set_event_loop_thread
from dramatiq.logging import get_logger
from dramatiq.middleware import AsyncIO

from actors.pages import Pages
from relay import log
from relay.broker import RelayBroker
from relay.processes import begin_to_serve, end_with_parent
from relay.runtime import Worker
from relay.settings import Settings

_LOOK_S = 1.0
T = TypeVar("T")


class Loop(AsyncIO):
    """Dramatiq's event loop thread on uvloop."""

    def before_worker_boot(self, broker: Broker, worker: DramatiqWorker) -> None:
        """Start the loop."""
        thread = EventLoopThread(get_logger(__name__), interrupt_check_ival=_LOOK_S)
        thread.loop.close()
        thread.loop = uvloop.new_event_loop()
        thread.daemon = True
        thread.start(timeout=5.0)
        set_event_loop_thread(thread)


class Process(Middleware):
    """Builds Relay's worker on the loop before the first message, and ends it after the last."""

    def __init__(self, settings: Settings, *, pages_listener: str | None) -> None:
        """`pages_listener` is the descriptor of METRICS_PORT; None: no pages."""
        self._settings = settings
        self._pages_listener = pages_listener
        self._relay: Worker | None = None
        self._pages: Pages | None = None

    @property
    def relay(self) -> Worker:
        """Relay's worker; there between boot and shutdown."""
        assert self._relay is not None
        return self._relay

    def after_process_boot(self, broker: Broker) -> None:
        """End with the master, however it dies: an orphan would go on sending unseen."""
        log.configure(self._settings)
        end_with_parent(signal.SIGTERM)
        _allow_many_sockets()
        begin_to_serve()

    def before_worker_boot(self, broker: Broker, worker: DramatiqWorker) -> None:
        """Build and start."""
        assert isinstance(broker, RelayBroker)
        loop = _thread().loop
        on_loop(self._start())
        clock = self.relay.clock
        broker.on_clock = partial(loop.call_soon_threadsafe, clock.wake)

    async def _start(self) -> None:
        self._relay = Worker(self._settings)
        self._pages = Pages(self._relay)
        if self._pages_listener is not None:
            await self._pages.open(socket.socket(fileno=int(self._pages_listener)))
        await self._relay.start()

    def before_worker_shutdown(self, broker: Broker, worker: DramatiqWorker) -> None:
        """Send nothing new."""
        on_loop(self.relay.begin_stop())

    def after_worker_shutdown(self, broker: Broker, worker: DramatiqWorker) -> None:
        """Finish, record, give back."""
        on_loop(self._stop())

    async def _stop(self) -> None:
        if self._pages is not None:
            await self._pages.close()
        await self.relay.stop()


def _allow_many_sockets() -> None:
    """Each request in flight is a socket, and the usual soft limit of 1 024 would make endpoints look unreachable."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _thread() -> EventLoopThread:
    thread = get_event_loop_thread()
    assert thread is not None
    return thread


def on_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run this on Relay's event loop and wait for what it returns, from any other thread."""
    return asyncio.run_coroutine_threadsafe(work, _thread().loop).result()
