"""Ending in good order: what Ctrl-C, SIGTERM and a closed terminal mean to a command that runs until told."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def on_interrupt(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` at the first interruption inside the block; a second one raises KeyboardInterrupt.

    `stop` runs between any two steps of the main thread, so it must take no lock: `SimpleQueue.put` is made for that.
    """

    def first(_number: int, _frame: FrameType | None) -> None:
        for number in _SIGNALS:
            signal.signal(number, signal.default_int_handler)
        stop()

    before = [signal.signal(number, first) for number in _SIGNALS]
    try:
        yield
    finally:
        for number, handler in zip(_SIGNALS, before, strict=True):
            signal.signal(number, handler)
