"""A sandbox's child process: runs JavaScript that nobody trusts, each call in a runtime of its own, and can do nothing else.

It is started by its path, in Python's isolated mode, and imports nothing of Relay. Before the first call it gives up the
network, files, other processes and root. Over the socket that is its standard input come frames: what to do, whether more
come with it, in how many seconds, two lengths, code, and an argument. Each is answered by a frame: a kind, three lengths,
the text that came of it, the argument as the engine writes it, and what the code wrote to the console.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _quickjs import Context, JSException, Object, StackOverflow  # the package around it would start a thread

#: What to do: look whether the code has a function `transform`, call that, or call it and keep what it logs.
CHECK, CALL, LOG = b"C", b"X", b"L"
#: What a frame of the child is.
READY, ANSWER, FAILURE = b"R", b"A", b"F"
ASKED, ANSWERED = struct.Struct(">c?dII"), struct.Struct(">cIII")
_ADDRESS_SPACE = 512 << 20
_STACK = 256 << 10
_SHOW_S = 0.05
#: What was asked for together is answered together, if that does not take long.
_GATHERED_S = 0.003
_SILENT = "{ const f = () => {}; globalThis.console = { log: f, info: f, warn: f, error: f, debug: f } } void 0;"
_NOBODY = 65534
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38


class _Refused(Exception):
    """What the code is, or returned, is of no use."""


def main() -> None:
    """Answer calls until the parent closes the socket; `argv`: the parent, bytes of memory, bytes of an answer."""
    parent, memory, most = map(int, sys.argv[1:])
    console = Path(__file__).with_name("console.js").read_text(encoding="utf-8")
    _confine(parent)
    _write(ANSWERED.pack(READY, 0, 0, 0))
    calls, answers, began_s = os.fdopen(0, "rb"), bytearray(), 0.0
    while True:
        context = Context()  # made while nobody waits for it
        context.set_memory_limit(memory)
        context.set_max_stack_size(_STACK)
        head = calls.read(ASKED.size)
        if len(head) < ASKED.size:
            return
        task, more, seconds, *lengths = ASKED.unpack(head)
        context.set_time_limit(seconds)
        code, argument = (calls.read(length).decode() for length in lengths)
        began_s = began_s if answers else time.monotonic()
        show = context.eval(console if task == LOG else _SILENT)
        kind, text, before = _run(context, code, None if task == CHECK else argument)
        logs = _logs(context, show) if task == LOG else b""
        if len(text) + len(before) + len(logs) > most:
            kind, text, before, logs = FAILURE, f"The answer is larger than {most} bytes.".encode(), b"", b""
        answers += ANSWERED.pack(kind, len(text), len(before), len(logs)) + text + before + logs
        if not more or time.monotonic() - began_s > _GATHERED_S:
            _write(answers)
            answers.clear()


def _run(context: Any, code: str, argument: str | None) -> tuple[bytes, bytes, bytes]:
    def steps() -> tuple[str, str]:
        context.eval(f"{code}\nvoid 0;")  # whose own last value the bindings may not know
        transform = context.eval("typeof transform === 'function' ? transform : null")
        if transform is None:
            raise _Refused("There is no function transform.")
        if argument is None:
            return "", ""
        webhook = context.parse_json(argument)
        before = webhook.json()
        given = transform(webhook)
        after = given.json() if isinstance(given, Object) else None
        if after is None:
            raise _Refused("transform must return an object: the webhook.")
        if after == "{}" and context.eval("(it) => typeof it.then === 'function'")(given):
            raise _Refused("transform must not be async.")
        return after, before

    return _shielded(steps)


def _logs(context: Any, show: Any) -> bytes:
    context.set_time_limit(_SHOW_S)
    kind, text, _ = _shielded(lambda: (show(), ""))
    return text if kind == ANSWER else b""


def _shielded(steps: Callable[[], tuple[str, str]]) -> tuple[bytes, bytes, bytes]:
    """The answer that the steps lead to, or the first lines of what the engine says against it."""
    try:
        answer, before = steps()
        return ANSWER, answer.encode(errors="replace"), before.encode(errors="replace")
    except StackOverflow:
        said = "The stack overflowed."
    except (JSException, MemoryError, _Refused) as cause:
        said = str(cause) or "out of memory"
    except Exception as cause:  # the engine's bindings meet what they do not know
        said = f"The engine gave up: {cause!r}"[:500]
    return FAILURE, said.encode(errors="replace"), b""


def _write(frames: bytes | bytearray) -> None:
    left = memoryview(bytes(frames))
    while left:
        left = left[os.write(1, left) :]


def _confine(parent: int) -> None:
    """Give up all that a process may do beyond computing and talking to its parent."""
    limits = {
        resource.RLIMIT_AS: _ADDRESS_SPACE,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: 3,  # those it has: no file and no socket can be opened any more
        resource.RLIMIT_NPROC: 0,
    }
    for name, most in limits.items():
        with contextlib.nullcontext() if sys.platform == "linux" else contextlib.suppress(ValueError, OSError):
            resource.setrlimit(name, (most, most))
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(_NOBODY)
        os.setuid(_NOBODY)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
        libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)  # after setuid, which forgets it
        if os.getppid() != parent:
            os._exit(0)


if __name__ == "__main__":
    main()
