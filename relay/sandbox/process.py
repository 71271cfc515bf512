"""One child process that runs JavaScript, as its parent sees it: started, called, and killed when it does not answer."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relay.sandbox import child

WALL_S = 1.0
MEMORY_BYTES = 64 << 20
_START_S = 10.0
# The loop may have been busy while the answer came.
_GRACE_S = 0.05
_ENGINE_S_OF_WALL = 0.95
_BROKEN = "The sandbox broke down."
_MOST_OF_ERROR = 500
_KINDS = (child.READY, child.ANSWER, child.FAILURE)


class NotStarted(Exception):
    """A sandbox cannot be started: nothing is known about the code it should have run."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a call may use: seconds of wall clock, and bytes of its answer.

    `hurry_s` of them it has while others may wait for the child.
    """

    wall_s: float = WALL_S
    hurry_s: float = 0.25
    answer_bytes: int = 2 << 20


def answer_bytes(payload_bytes: int) -> int:
    """How large an answer may be that holds a payload of so many bytes, beside its headers."""
    return 4 * payload_bytes + (1 << 20)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a call: the text it answered, or in one sentence why there is none.

    `before` is the argument as the engine writes it.
    `logs`: a JSON list of what it wrote to the console, empty unless that was asked for. `took_s`: by the wall clock.
    `late`: its time was over, or that of all it was called with; called again alone it may end in time.
    """

    text: bytes
    error: str | None
    took_s: float
    before: bytes = b""
    logs: bytes = b""
    late: bool = False


class Child(asyncio.Protocol):
    """A child process; it runs one call at a time, and once it is not `alive` it is of no use."""

    def __init__(self, limits: Limits) -> None:
        self.alive = False
        self.calls = 0
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._received = bytearray()
        self._asked: deque[asyncio.Future[Answer]] = deque()
        self._transport: asyncio.Transport | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._began_s = 0.0
        self._within_s = limits.wall_s

    async def start(self) -> None:
        """Start the process and wait until it takes calls; raise NotStarted when it does not."""
        ours, its = socket.socketpair()
        try:
            with its:
                self._process = _spawn(its, self._limits)
            transport, _ = await self._loop.create_unix_connection(lambda: self, sock=ours)
            self._transport = transport
            async with asyncio.timeout(_START_S):
                await self._ready
        except BaseException as cause:
            self.kill()
            if self._transport is None:
                ours.close()
            if isinstance(cause, (OSError, TimeoutError)):
                raise NotStarted(f"A sandbox could not be started ({type(cause).__name__}).") from cause
            raise
        self.alive = True

    def call(
        self, task: bytes, code: bytes, arguments: Sequence[bytes], *, within_s: float
    ) -> list[asyncio.Future[Answer]]:
        """Do what `task` says (see `child`) with this code, for each argument; the futures hold no exception.

        The time is for all of them. When it is over, or the child ends, with several unanswered, each of those is `late`.
        """
        assert self._transport is not None
        assert not self._asked
        self.calls += len(arguments)
        self._within_s = within_s
        self._began_s = time.monotonic()
        self._timer = self._loop.call_later(within_s, self._overdue)
        frames, last = bytearray(), len(arguments) - 1
        for at, argument in enumerate(arguments):
            # The engine counts what it computes, and ends an ordinary loop before the child would have to be killed for it.
            frames += child.ASKED.pack(task, at < last, within_s * _ENGINE_S_OF_WALL, len(code), len(argument))
            frames += code + argument
            self._asked.append(self._loop.create_future())
        asked = list(self._asked)
        self._transport.write(frames)
        return asked

    def kill(self) -> None:
        """End the process, whatever it does."""
        self.alive = False
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            self._loop.run_in_executor(None, process.wait)
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take what the child writes."""
        self._received += data
        head, at = child.ANSWERED.size, 0
        while len(self._received) >= at + head:
            kind, *lengths = child.ANSWERED.unpack_from(self._received, at)
            if sum(lengths) > self._limits.answer_bytes + _MOST_OF_ERROR or kind not in _KINDS:
                self.kill()
                return self._end_all(_BROKEN)
            if len(self._received) < at + head + sum(lengths):
                break
            at += head
            texts = [bytes(self._received[at : (at := at + length)]) for length in lengths]
            self._hear(kind, *texts)
        del self._received[:at]

    def connection_lost(self, exc: Exception | None) -> None:
        """Learn that the child is gone."""
        self.alive = False
        if not self._ready.done():
            self._ready.set_exception(ConnectionResetError("the child ended"))
        self._end_all(_BROKEN)
        self.kill()

    def _hear(self, kind: bytes, text: bytes, before: bytes, logs: bytes) -> None:
        if kind == child.READY:
            if not self._ready.done():
                self._ready.set_result(None)
        elif kind == child.ANSWER:
            self._end(None, text=text, before=before, logs=logs)
        else:
            error = self._sentence(text.decode(errors="replace"))
            self._end(error, logs=logs, late=error == self._too_long())

    def _overdue(self) -> None:
        self._timer = self._loop.call_later(_GRACE_S, self._give_up)

    def _give_up(self) -> None:
        self.kill()
        self._end_all(self._too_long(), late=True)

    def _end_all(self, error: str, **fields: Any) -> None:
        if len(self._asked) > 1:  # which of them it was is not known
            fields["late"] = True
        while self._asked:
            self._end(error, **fields)

    def _end(self, error: str | None, *, text: bytes = b"", **fields: Any) -> None:
        if not self._asked:
            return
        answer = self._asked.popleft()
        if not self._asked and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not answer.done():
            answer.set_result(Answer(text, error, time.monotonic() - self._began_s, **fields))

    def _too_long(self) -> str:
        return f"It took more than {self._within_s:g} s."

    def _sentence(self, thrown: str) -> str:
        """The first line of what the engine says, with the place in the code."""
        first, _, stack = thrown.partition("\n")
        if first.endswith("interrupted"):
            return self._too_long()
        if first.endswith("out of memory"):
            return "It used more than 64 MiB."
        line = stack.partition("<input>:")[2].partition(":")[0]
        return first[:_MOST_OF_ERROR] + (f" (line {line})" if line.isdigit() else "")


def _spawn(its: socket.socket, limits: Limits) -> subprocess.Popen[bytes]:
    program = Path(child.__file__)
    numbers = (os.getpid(), MEMORY_BYTES, limits.answer_bytes)
    return subprocess.Popen(
        [sys.executable, "-I", str(program), *map(str, numbers)],
        stdin=its.fileno(),
        stdout=its.fileno(),
        stderr=subprocess.DEVNULL,
        env={},
        cwd="/",
        start_new_session=True,
    )
