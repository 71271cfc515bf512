"""`relay up`: run everything on this machine."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from relay.cli.environment import data_dir
from relay.processes import end_with_parent
from relay.up.development import chosen_procfile
from relay.up.run import Options, up

_SUMMARY = "run Relay on this machine: Postgres, Valkey, web and workers; Ctrl-C stops all"


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `relay up`."""
    parser = subparsers.add_parser("up", help=_SUMMARY, description=_SUMMARY)
    parser.add_argument("--procfile", type=Path, help="what to start (default: the Procfile here, or the checkout's)")
    parser.add_argument("--end-with-parent", action="store_true", help="stop when the calling process is gone (Linux)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Start everything and stay until told to stop."""
    if arguments.end_with_parent:
        end_with_parent()
    return up(Options(data_dir=data_dir(), procfile=chosen_procfile(arguments.procfile)), os.environ)
