"""Child processes that end with their parent: what to start, as whom, and how to ask it to stop.

On Linux the kernel itself signals a child when its parent dies (prctl(2), PR_SET_PDEATHSIG), so even `kill -9` of a
parent leaves nothing behind. Children must be started from the main thread: the kernel looks at the thread.
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
#: In the environment of a worker: the descriptor of the open METRICS_PORT that its processes inherit.
PAGES_LISTENER = "RELAY_PAGES_LISTENER"
_METRICS_PREFIX = "relay-metrics-"
#: The file whose lock says that processes use a metrics folder.
IN_USE = "in-use"
#: How many objects more than at the last look are looked at; Python's default is 700.
_NEW_OBJECTS = 20_000
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


@dataclass(frozen=True, slots=True)
class Command:
    """A process to start; `run_as` is the (user, group) to give up root for, `stop_signal` asks it to end in order."""

    name: str
    argv: tuple[str, ...]
    cwd: Path
    environment: Mapping[str, str]
    stop_signal: signal.Signals = signal.SIGTERM
    run_as: tuple[int, int] | None = None


def spawn_options(command: Command) -> dict[str, Any]:
    """The keywords for `subprocess.Popen` or `asyncio.create_subprocess_exec` that start this command as it should be.

    It gets a session of its own, so that Ctrl-C in a terminal reaches only the parent, which stops all in order.
    """
    options: dict[str, Any] = {
        "cwd": command.cwd,
        "env": dict(command.environment),
        "start_new_session": True,
        "preexec_fn": _follow(os.getpid(), command.stop_signal),
    }
    if command.run_as is not None:
        user, group = command.run_as
        options |= {"user": user, "group": group, "extra_groups": []}
    return options


def metrics_folder(present: str = "") -> str:
    """A new folder in which the processes of this service share their metrics (PROMETHEUS_MULTIPROC_DIR).

    `present` stays the folder of a master that reads its configuration again. Those of services that are gone are removed.
    """
    mine = f"{_METRICS_PREFIX}{os.getpid()}-"
    if Path(present).name.startswith(mine) and Path(present).is_dir():
        return present
    place = Path(tempfile.gettempdir())
    for old in place.glob(f"{_METRICS_PREFIX}*"):
        if _abandoned(old):
            shutil.rmtree(old, ignore_errors=True)
    folder = tempfile.mkdtemp(prefix=mine, dir=place)
    in_use = os.open(Path(folder, IN_USE), os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(in_use, fcntl.LOCK_SH)
    os.set_inheritable(in_use, True)  # the lock ends with the last process that inherited it
    return folder


def _abandoned(folder: Path) -> bool:
    """Whether no process uses this folder. A number says little: the first process of every container is 1."""
    try:
        in_use = os.open(folder / IN_USE, os.O_RDWR)
    except FileNotFoundError:  # just made, perhaps
        return not exists(folder.name.removeprefix(_METRICS_PREFIX).partition("-")[0])
    except OSError:  # another user's
        return False
    try:
        fcntl.flock(in_use, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(in_use)


def end_with_parent(stop_signal: signal.Signals = signal.SIGTERM) -> None:
    """Have this process signalled when its parent dies; does nothing where the kernel cannot (macOS)."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(stop_signal))


def exists(pid: str) -> bool:
    """Whether a process has this number; false for what is no number."""
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        pass
    return True


def _follow(parent: int, stop_signal: signal.Signals) -> Callable[[], None]:
    def _prepare() -> None:
        end_with_parent(stop_signal)
        if os.getppid() != parent:  # it died before the line above took effect
            os._exit(1)

    return _prepare


def begin_to_serve() -> None:
    """Have Python's garbage collector pass over what is there since the start, and look less often at what comes.

    What was imported is never garbage, and nearly all that a request leaves behind goes without the collector.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, *gc.get_threshold()[1:])
