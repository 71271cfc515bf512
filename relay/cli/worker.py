"""`relay worker`: become the Dramatiq master that runs Relay's worker processes."""

from __future__ import annotations

import argparse
import os
import socket
import sys

from relay.cli.environment import command_environment
from relay.processes import PAGES_LISTENER, metrics_folder
from relay.redis_modes import refuse_wrong_redis
from relay.settings import Settings, read_settings

_SUMMARY = "run the worker processes (WORKER_PROCESSES of them) in the foreground"
# Threads only claim work and hand it over; the requests themselves are tasks of one event loop per process.
_THREADS = 8
# What Dramatiq may use of SHUTDOWN_GRACE_S: the rest is for its master, which looks once a second.
_SHARE_OF_GRACE = 0.8
_FOLDER = "PROMETHEUS_MULTIPROC_DIR"


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `relay worker`."""
    parser = subparsers.add_parser("worker", help=_SUMMARY, description=_SUMMARY)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:  # noqa: ARG001
    """Replace this process by Dramatiq's; a wrong setting is told before."""
    environment = command_environment()
    settings = read_settings(environment)
    if settings.log_format == "auto" and sys.stderr.isatty():
        environment["LOG_FORMAT"] = "pretty"  # the processes to come write into a pipe
    sys.stderr.writelines(f"{sentence}\n" for sentence in refuse_wrong_redis(settings))
    argv = dramatiq_command(settings)
    environment.pop(_FOLDER, None)
    if settings.metrics_provider:
        environment[_FOLDER] = metrics_folder()
    listener = _listen(settings)
    if listener is not None:
        environment[PAGES_LISTENER] = str(listener.fileno())
    os.execve(argv[0], argv, environment)


def _listen(settings: Settings) -> socket.socket | None:
    """Open METRICS_PORT for the processes to come, which inherit it; a port that is taken is a warning, not a stop."""
    if settings.metrics_port == 0:
        return None
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listener = socket.create_server((settings.host, settings.metrics_port), family=family)
    except OSError as cause:
        sys.stderr.write(
            f"No health and metrics pages: METRICS_PORT {settings.metrics_port} cannot be used ({cause.strerror}).\n"
        )
        return None
    listener.set_inheritable(True)
    return listener


def dramatiq_command(settings: Settings) -> list[str]:
    """The command line of Dramatiq's master; its shutdown deadline lies inside SHUTDOWN_GRACE_S."""
    shutdown_ms = int(settings.shutdown_grace_s * 1000 * _SHARE_OF_GRACE)
    return [
        *(sys.executable, "-m", "actors.dramatiq_master", "actors.main"),
        *("--processes", str(settings.worker_processes), "--threads", str(_THREADS)),
        *("--worker-shutdown-timeout", str(shutdown_ms)),
    ]
