"""Logs: one line an event, JSON for machines or plain for a terminal. Secrets and payloads never go in.

What a line is about stands in fields of its own: `event_id`, `delivery_id`, `endpoint_id`, `tenant_id`, `job_id`, given as
`extra`. Lines of libraries come in the same format.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from relay.settings import Settings

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
#: Libraries that say too much: a lost Redis or Postgres would be a line for each consumer and connection, every few
#: seconds; Relay says it once.
_NOISY = {
    "asyncio": logging.INFO,
    "dramatiq": logging.WARNING,
    "dramatiq.worker": logging.CRITICAL + 1,
    "dramatiq.worker.WorkerThread": logging.ERROR,
    "actors.process": logging.WARNING,
    "psycopg": logging.WARNING,
    "psycopg.pool": logging.ERROR,
}
#: Libraries that bring handlers of their own: their lines go the way of all others.
_WILFUL = ("dramatiq", "gunicorn.error", "uvicorn", "uvicorn.error")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
_MASK = "***"
#: Shorter ones would blot out ordinary words.
_SHORTEST_SECRET = 6
_MASKED = (
    # What Postgres quotes of a row that it refused may be a payload.
    (re.compile(r"\n\s*(?:DETAIL|CONTEXT):.*?(?=\nTraceback|\Z)", re.DOTALL), ""),
    (re.compile(r"(://)[^\s/@'\"]+@"), rf"\1{_MASK}@"),
    (re.compile(r"(\bhttps?://[^\s?#'\"<>]+)[?#][^\s'\"<>]*"), rf"\1?{_MASK}"),
    (re.compile(r"\b(rly_|whsec_|whsk_)[A-Za-z0-9+/=_-]+"), rf"\1{_MASK}"),
    (
        re.compile(
            r"\b((?:proxy-)?authorization|x-api-key|set-cookie|cookie|password)\b"
            r"(['\"]?\s*[:=]\s*)(?:'[^']*'|\"[^\"]*\"|(?:(?:basic|bearer)\s+)?[^\s'\",;]+)",
            re.IGNORECASE,
        ),
        rf"\1\2{_MASK}",
    ),
)


def configure(settings: Settings) -> None:
    """Send every record of this process to stderr, at the level and in the format of the settings."""
    pretty = settings.log_format == "pretty" or (settings.log_format == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    secrets = _secrets(settings)
    handler.setFormatter(_Pretty(secrets) if pretty else _Json(secrets))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_LEVELS[settings.log_level])
    for wilful in _WILFUL:
        logger = logging.getLogger(wilful)
        logger.handlers, logger.propagate = [], True
        logger.setLevel(logging.NOTSET)
    for noisy, least in _NOISY.items():
        logging.getLogger(noisy).setLevel(max(root.level, least))


def _secrets(settings: Settings) -> frozenset[str]:
    """What of the settings must never be seen: the values of keys, and the passwords in URLs, as they are spelled."""
    found: set[str] = set()
    for name, value in settings.model_dump().items():
        if not isinstance(value, str):
            continue
        if "key" in name:
            found.add(value)
        elif "://" in value:
            found |= _passwords(value)
    return frozenset(secret for secret in found if len(secret) >= _SHORTEST_SECRET)


def _passwords(url: str) -> set[str]:
    userinfo, at, _ = urlsplit(url).netloc.rpartition("@")
    password = userinfo.partition(":")[2] if at else ""
    return {password, unquote(password)}


class _Formatter(logging.Formatter):
    def __init__(self, secrets: Iterable[str]) -> None:
        super().__init__()
        longest_first = sorted(secrets, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def masked(self, text: str) -> str:
        if self._known is not None:
            text = self._known.sub(_MASK, text)
        for pattern, instead in _MASKED:
            text = pattern.sub(instead, text)
        return text

    def extras(self, record: logging.LogRecord) -> dict[str, Any]:
        return {
            key: value if isinstance(value, bool | int | float) else self.masked(str(value))
            for key, value in vars(record).items()
            if key not in _STANDARD and value is not None
        }

    def trace(self, record: logging.LogRecord) -> str | None:
        return self.masked(self.formatException(record.exc_info)) if record.exc_info else None


class _Json(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _time(record),
            "level": _level(record),
            "logger": record.name,
            "message": self.masked(record.getMessage()),
            **self.extras(record),
        }
        if trace := self.trace(record):
            line["exception"] = trace
        return msgspec.json.encode(line).decode()


class _Pretty(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        message = self.masked(record.getMessage())
        extras = [f"{key}={value}" for key, value in self.extras(record).items() if str(value) not in message]
        line = " ".join([_time(record)[11:23], f"{_level(record):5}", message, *extras])
        trace = self.trace(record)
        return line if trace is None else f"{line}\n{trace}"


def _level(record: logging.LogRecord) -> str:
    """One of the four words of LOG_LEVEL."""
    if record.levelno >= logging.ERROR:
        return "error"
    return "warn" if record.levelno >= logging.WARNING else "info" if record.levelno >= logging.INFO else "debug"


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
