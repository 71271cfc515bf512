"""Keeps child processes running, and brings what they write into one log of prefixed lines."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from dataclasses import dataclass, field

from relay.processes import Command, spawn_options

_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 15.0
_STEADY_AFTER_S = 30.0
_LONGEST_LINE = 64 * 1024
_COLOURS = (36, 33, 32, 35, 34, 31)


@dataclass(slots=True)
class Log:
    """The one log of a run, on standard output: lines that begin with the name of their process, in its colour."""

    width: int = 8
    _colour_of: dict[str, int] = field(default_factory=dict[str, int])

    def line(self, name: str, text: str) -> None:
        """Write one line of a process."""
        prefix = f"{name:<{self.width}} | "
        if sys.stdout.isatty():
            colour = self._colour_of.setdefault(name, _COLOURS[len(self._colour_of) % len(_COLOURS)])
            prefix = f"\x1b[{colour}m{prefix}\x1b[0m"
        self.block(prefix + text)

    def block(self, text: str) -> None:
        """Write text as it is; a reader that went away is no reason to stop."""
        with contextlib.suppress(OSError):
            sys.stdout.write(text + "\n")
            sys.stdout.flush()


class Child:
    """One command kept running: started again with back-off when it ends before it was asked to."""

    def __init__(self, command: Command, log: Log) -> None:
        self.command = command
        self.deaths = 0
        self._log = log
        self._stopping = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._readers: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Start it; raises OSError when it cannot be."""
        process = await self._spawn()
        self._keeper = asyncio.create_task(self._keep(process))

    async def stop(self, *, grace_s: float) -> None:
        """Ask it to end, wait up to `grace_s` seconds, then end it and all its children by force."""
        self._stopping.set()
        if self._keeper is None:
            return
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(self.command.stop_signal)
        await asyncio.wait([self._keeper], timeout=grace_s)
        self.kill()
        await self._keeper
        if self._readers:
            await asyncio.wait(self._readers, timeout=1)

    def kill(self) -> None:
        """End it and all of its process group at once; it is not started again."""
        self._stopping.set()
        self.crash()

    def crash(self) -> None:
        """End it and all of its process group at once, as a machine that fails does; it is started again."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def _keep(self, process: asyncio.subprocess.Process) -> None:
        wait_s = _FIRST_WAIT_S
        while True:
            since = time.monotonic()
            code = await process.wait()
            if self._stopping.is_set():
                return
            self.deaths += 1
            if time.monotonic() - since > _STEADY_AFTER_S:
                wait_s = _FIRST_WAIT_S
            self._log.line("relay", f"{self.command.name} {_ending(code)}; starting it again in {wait_s:g} s")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), wait_s)
                return
            wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
            with contextlib.suppress(
                OSError
            ):  # no memory, no process left: the old one has ended, so it is tried again
                process = await self._spawn()
            if self._stopping.is_set():
                self.kill()

    async def _spawn(self) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *self.command.argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            **spawn_options(self.command),
        )
        if process.stdout is not None:
            reader = asyncio.create_task(self._read(process.stdout))
            self._readers.add(reader)
            reader.add_done_callback(self._readers.discard)
        self._process = process
        return process

    async def _read(self, stream: asyncio.StreamReader) -> None:
        rest = b""
        while chunk := await stream.read(_LONGEST_LINE):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._log.line(self.command.name, line.decode(errors="replace"))
            if len(rest) > _LONGEST_LINE:
                self._log.line(self.command.name, rest.decode(errors="replace"))
                rest = b""
        if rest:
            self._log.line(self.command.name, rest.decode(errors="replace"))


def _ending(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
