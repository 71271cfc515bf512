"""Logs: one line an event, JSON for machines or plain for a terminal. Secrets and payloads never go in."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime

import msgspec

from relay.settings import Settings

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
#: Libraries that say too much: a lost Redis or Postgres would be a line for each consumer and connection, every few
#: seconds; Relay says it once.
_NOISY = {
    "dramatiq": logging.WARNING,
    "dramatiq.worker": logging.CRITICAL + 1,
    "dramatiq.worker.WorkerThread": logging.ERROR,
    "actors.process": logging.WARNING,
    "psycopg.pool": logging.ERROR,
}
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure(settings: Settings) -> None:
    """Send every record of this process to stderr, at the level and in the format of the settings."""
    pretty = settings.log_format == "pretty" or (settings.log_format == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Pretty() if pretty else _Json())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_LEVELS[settings.log_level])
    for noisy, least in _NOISY.items():
        logging.getLogger(noisy).setLevel(max(root.level, least))


def _extras(record: logging.LogRecord) -> dict[str, str]:
    return {key: str(value) for key, value in vars(record).items() if key not in _STANDARD}


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _time(record),
            "level": "warn" if record.levelno == logging.WARNING else record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extras(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


class _Pretty(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        extras = "".join(f" {key}={value}" for key, value in _extras(record).items())
        line = f"{_time(record)[11:23]} {record.levelname.lower():8}{record.getMessage()}{extras}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line
