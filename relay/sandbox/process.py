"""One child process that runs JavaScript, as its parent sees it: started, called, and killed when it does not answer."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from relay.sandbox import child

WALL_S = 1.0
MEMORY_BYTES = 64 << 20
_START_S = 10.0
# The loop may have been busy while the answer came.
_GRACE_S = 0.05
_ENGINE_S_OF_WALL = 0.8
_INTERRUPTED = "interrupted"
_MOST_OF_ERROR = 500
_OUR_FRAME = re.compile(r"at relay \(")  # of prelude.js
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

    `logs`: a JSON list of what it wrote to the console, empty unless that was asked for. `took_s`: by the wall clock.
    `late`: it was ended because its time was over.
    """

    text: bytes
    error: str | None
    took_s: float
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
        self._answer: asyncio.Future[Answer] | None = None
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
        except (OSError, TimeoutError) as cause:
            self.kill()
            if self._transport is None:
                ours.close()
            raise NotStarted(f"A sandbox could not be started ({type(cause).__name__}).") from cause
        except BaseException:
            self.kill()
            raise
        self.alive = True

    def call(self, task: bytes, code: bytes, argument: bytes, *, within_s: float) -> asyncio.Future[Answer]:
        """Do what `task` says (see `child`) with this code; the future holds no exception."""
        assert self._transport is not None
        assert self._answer is None
        self.calls += 1
        self._answer = self._loop.create_future()
        self._began_s = time.monotonic()
        self._within_s = within_s
        self._timer = self._loop.call_later(within_s, self._overdue)
        # The engine counts what it computes, and ends an ordinary loop before the child would have to be killed for it.
        head = child.ASKED.pack(task, within_s * _ENGINE_S_OF_WALL, len(code), len(argument))
        self._transport.write(head + code + argument)
        return self._answer

    def kill(self) -> None:
        """End the process, whatever it does."""
        self.alive = False
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            self._loop.run_in_executor(None, self._process.wait)
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take what the child writes."""
        self._received += data
        head = child.ANSWERED.size
        if len(self._received) < head:
            return
        kind, text, logs = child.ANSWERED.unpack_from(self._received)
        if text + logs > self._limits.answer_bytes + _MOST_OF_ERROR or kind not in _KINDS:
            self._end("The sandbox broke down.")
            self.kill()
        elif len(self._received) >= head + text + logs:
            whole = bytes(self._received)
            self._received.clear()
            self._hear(kind, whole[head : head + text], whole[head + text : head + text + logs])

    def connection_lost(self, exc: Exception | None) -> None:
        """Learn that the child is gone."""
        self.alive = False
        if not self._ready.done():
            self._ready.set_exception(ConnectionResetError("the child ended"))
        self._end("The sandbox broke down.")
        self.kill()

    def _hear(self, kind: bytes, text: bytes, logs: bytes) -> None:
        if kind == child.READY:
            if not self._ready.done():
                self._ready.set_result(None)
        elif kind == child.ANSWER:
            self._end(None, text, logs)
        else:
            self._end(self._sentence(text.decode(errors="replace")), b"", logs)

    def _overdue(self) -> None:
        self._timer = self._loop.call_later(_GRACE_S, self._give_up)

    def _give_up(self) -> None:
        self._end(_INTERRUPTED)
        self.kill()

    def _end(self, error: str | None, text: bytes = b"", logs: bytes = b"") -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            late = error == _INTERRUPTED
            if late:
                error = f"It took more than {self._within_s:g} s."
            answer.set_result(Answer(text, error, time.monotonic() - self._began_s, logs, late))

    def _sentence(self, thrown: str) -> str:
        """The first line of what the engine says, with the place in the code."""
        first, _, stack = thrown.partition("\n")
        if first.endswith(_INTERRUPTED):
            return _INTERRUPTED
        if first.endswith("out of memory"):
            return "It used more than 64 MiB."
        frame = next((one for one in stack.split("\n") if "<input>:" in one and not _OUR_FRAME.search(one)), "")
        line = frame.partition("<input>:")[2].partition(":")[0]
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
