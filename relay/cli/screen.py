"""The whole terminal for a command that keeps drawing: taken at the start, and given back as it was however it ends."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import TextIO

_ENTER = "\x1b[?1049h\x1b[?25l\x1b[2J"
_LEAVE = "\x1b[0m\x1b[?25h\x1b[?1049l"
_SMALLEST = 20, 5


def size(stream: TextIO) -> tuple[int, int]:
    """Columns and lines of the terminal; 80 and 24 where there is none."""
    try:
        columns, lines = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        return 80, 24
    return max(columns, _SMALLEST[0]) if columns else 80, max(lines, _SMALLEST[1]) if lines else 24


@contextlib.contextmanager
def whole_screen(stream: TextIO) -> Iterator[None]:
    """Draw inside on the terminal's other screen, without a cursor; what was there before comes back at the end."""
    try:
        stream.write(_ENTER)
        stream.flush()
        yield
    finally:
        stream.write(_LEAVE)
        stream.flush()


def draw(stream: TextIO, lines: Sequence[str]) -> None:
    """Show these lines from the top, in one write and without clearing first, so that nothing flickers."""
    stream.write("\x1b[H" + "\x1b[K\r\n".join(lines) + "\x1b[K\x1b[J")
    stream.flush()


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Have SIGTERM and a closed terminal end the block as Ctrl-C does: by KeyboardInterrupt, so that it is tidied up."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, _interrupt) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
