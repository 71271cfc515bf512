"""The `relay` command: finds the module of a subcommand, and turns every expected failure into one sentence.

Exit codes: 0 done, 1 failed (one sentence on standard error), 2 used wrongly; `relay plan` has its own meaning of 2.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from relay import __version__

#: The modules that make up the command line, in the order of `relay --help`; each has `register(subparsers)`.
COMMANDS = (
    "relay.cli.up",
    "relay.cli.migrate",
    "relay.cli.worker",
    "relay.cli.client",
    "relay.cli.apikey",
    "relay.cli.audit",
    "relay.cli.send",
    "relay.cli.listen",
    "relay.cli.why",
    "relay.cli.stats",
    "relay.cli.top",
    "relay.cli.logs",
    "relay.cli.verify",
    "relay.cli.drill",
    "relay.cli.doctor",
    "relay.cli.queue",
    "relay.cli.keys",
    "relay.cli.analytics",
    "relay.cli.archive",
    "relay.cli.policy",
    "relay.cli.plan",
    "relay.cli.apply",
    "relay.cli.export",
    "relay.cli.schema",
    "relay.cli.demo",
)
_USED_WRONGLY = 2
#: Failures that are told in a sentence, by the module they come from: a command that has not imported it cannot fail so.
_EXPECTED = (
    ("relay.errors", "RelayError"),
    ("relay.settings", "SettingsError"),
    ("psycopg", "Error"),
    ("redis", "RedisError"),
    ("builtins", "OSError"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code."""
    given = sys.argv[1:] if argv is None else argv
    parser = _parser(given)
    arguments, unknown = parser.parse_known_args(given)
    if unknown:
        parser.set_defaults(usage_code=getattr(arguments, "usage_code", _USED_WRONGLY))
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        return arguments.run(arguments)
    except BrokenPipeError:  # whoever read our words has enough of them, as in `relay listen | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if not isinstance(error, _expected()):
            raise
        sys.stderr.write(f"relay: {_sentence(error)}\n")
        return 1
    except KeyboardInterrupt:
        return 130


class _Parser(argparse.ArgumentParser):
    """Ends with 2 when it is used wrongly, or with what a command has set as `usage_code`."""

    def error(self, message: str) -> NoReturn:
        """Say how the command is used, and what is wrong."""
        self.print_usage(sys.stderr)
        self.exit(self.get_default("usage_code") or _USED_WRONGLY, f"{self.prog}: error: {message}\n")


def _parser(argv: Sequence[str] = ()) -> argparse.ArgumentParser:
    parser = _Parser(prog="relay", description="Relay accepts events and delivers them as signed webhooks.")
    parser.add_argument("--version", action="version", version=f"relay {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in _modules(argv):
        import_module(name).register(subparsers)
    return parser


def _modules(argv: Sequence[str]) -> Sequence[str]:
    """The module of the command that is given; all of them where none is. To import them all takes a second."""
    given = [name for name in COMMANDS if argv and name.rpartition(".")[2] == argv[0]]
    return given or COMMANDS


def _expected() -> tuple[type[Exception], ...]:
    return tuple(getattr(sys.modules[module], name) for module, name in _EXPECTED if module in sys.modules)


def _sentence(error: Exception) -> str:
    """The first line of what an error says, and what was noted with it: a traceback helps nobody at a terminal."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join([lines[0] if lines else type(error).__name__, *getattr(error, "__notes__", ())])
