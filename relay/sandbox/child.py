"""A sandbox's child process: runs JavaScript that nobody trusts, each call in a runtime of its own, and can do nothing else.

It is started by its path, in Python's isolated mode, and imports nothing of Relay. Before the first call it gives up the
network, files, other processes and root. Over the socket that is its standard input come frames: what to do, in how many
seconds, two lengths, code, and an argument.
Each is answered by a frame: a kind, two lengths, a text, and what the code wrote to the console.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _quickjs import Context, JSException, StackOverflow  # the package around it would start a thread

#: What to do: look whether the code has a function `transform`, call that, or call it and keep what it logs.
CHECK, CALL, LOG = b"C", b"X", b"L"
#: What a frame of the child is.
READY, ANSWER, FAILURE = b"R", b"A", b"F"
ASKED, ANSWERED = struct.Struct(">cdII"), struct.Struct(">cII")
_ADDRESS_SPACE = 512 << 20
_STACK = 256 << 10
_SHOW_S = 0.05
_NOBODY = 65534
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38


def main() -> None:
    """Answer calls until the parent closes the socket; `argv`: the parent, bytes of memory, bytes of an answer."""
    parent, memory, most = map(int, sys.argv[1:])
    scripts = {
        name: Path(__file__).with_name(f"{name}.js").read_text(encoding="utf-8") for name in ("prelude", "console")
    }
    _confine(parent)
    _write(READY, b"", b"")
    calls = os.fdopen(0, "rb")
    while True:
        context = Context()  # made while nobody waits for it
        context.set_memory_limit(memory)
        context.set_max_stack_size(_STACK)
        head = calls.read(ASKED.size)
        if len(head) < ASKED.size:
            return
        task, seconds, *lengths = ASKED.unpack(head)
        context.set_time_limit(seconds)
        code, argument = (calls.read(length).decode() for length in lengths)
        run, logs = context.eval(scripts["prelude"]), b""
        show = context.eval(scripts["console"]) if task == LOG else None
        kind, text = _run(context, run, code, None if task == CHECK else argument)
        if show is not None:
            context.set_time_limit(_SHOW_S)
            logs = _shielded(show)[1]
        if len(text) + len(logs) > most:
            kind, text, logs = FAILURE, f"The answer is larger than {most} bytes.".encode(), b""
        _write(kind, text, logs)


def _run(context: Any, run: Any, code: str, argument: str | None) -> tuple[bytes, bytes]:
    def steps() -> str | None:
        context.eval(f"{code}\nvoid 0;")  # whose own last value the bindings may not know
        transform = context.eval("typeof transform === 'function' ? transform : null")
        if transform is None:
            return None
        return "" if argument is None else run(transform, argument)

    return _shielded(steps)


def _shielded(steps: Callable[[], str | None]) -> tuple[bytes, bytes]:
    """The answer that the steps lead to, or the first lines of what the engine says against it."""
    try:
        answer = steps()
    except StackOverflow:
        return FAILURE, b"The stack overflowed."
    except (JSException, MemoryError) as cause:
        return FAILURE, str(cause or "out of memory").encode(errors="replace")
    except Exception as cause:  # the engine's bindings meet what they do not know
        return FAILURE, f"The engine gave up: {cause!r}"[:500].encode(errors="replace")
    return (FAILURE, b"There is no function transform.") if answer is None else (ANSWER, answer.encode())


def _write(kind: bytes, text: bytes, logs: bytes) -> None:
    left = memoryview(ANSWERED.pack(kind, len(text), len(logs)) + text + logs)
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
