"""How the commands' words reach a person: colour on a terminal only, foreign text made harmless, times in plain words.

Answers and payloads come from strangers: an escape sequence in one must not reach the terminal of whoever reads it.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TextIO

import msgspec

from relay.errors import Invalid

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


class Paint:
    """Colours text for one stream; off unless that is a terminal, and NO_COLOR is not set."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._on = stream is not None and stream.isatty() and not os.environ.get("NO_COLOR")

    def __call__(self, text: str, colour: str) -> str:
        """Return the text in a colour: bold, dim, red, green, yellow or cyan."""
        return f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if self._on else text


def buffer_by_line() -> None:
    """Have every line of stdout reach its reader at once, through a pipe too."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True, errors="replace")


def plain(text: str) -> str:
    """Return foreign text with every control character but line ends and tabs replaced."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def pretty(body: bytes, *, limit: int) -> str:
    """Return a body as a person reads it: JSON indented, other text as it is, bytes by their number; cut at `limit`."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return f"({len(body)} bytes that are no text)"
    if len(text) <= limit:
        text = _indented(text)
    return excerpt(text, limit=limit)


def _indented(text: str) -> str:
    """Indent JSON without reading its values: numbers and escapes stay as they were spelled."""
    try:
        return msgspec.json.format(text, indent=2)
    except (ValueError, RecursionError):
        return text


def excerpt(text: str, *, limit: int) -> str:
    """Return foreign text made harmless and cut at `limit` characters, saying so."""
    if len(text) <= limit:
        return plain(text)
    return f"{plain(text[:limit])}\N{HORIZONTAL ELLIPSIS} ({len(text)} characters in all)"


def print_json(value: Any) -> None:
    """Print a value as one line of JSON, in ASCII: it reads the same whatever the terminal's encoding."""
    print(json.dumps(value), flush=True)


def print_or_write(text: str, out: Path | None) -> None:
    """Print a text as it is, or write it into the file of `--out`; Invalid where that cannot be."""
    if out is None:
        print(text, end="")
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as cause:
        raise Invalid(f"--out: {out} cannot be written ({cause.strerror}).") from cause


def iso(moment: datetime) -> str:
    """Return a moment as the API writes it: UTC with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def span(length: timedelta) -> str:
    """Return a length of time in its two largest units: `850 ms`, `12 s`, `3 min 5 s`, `2 d 4 h`."""
    seconds = abs(length.total_seconds())
    if seconds < 1:
        return f"{round(seconds * 1000)} ms"
    whole = round(seconds)
    for size, smaller_size, unit, smaller in ((86400, 3600, "d", "h"), (3600, 60, "h", "min"), (60, 1, "min", "s")):
        if whole >= size:
            large, rest = divmod(whole, size)
            small = rest // smaller_size
            return f"{large} {unit} {small} {smaller}" if small else f"{large} {unit}"
    return f"{whole} s"


def relative(moment: datetime, *, now: datetime) -> str:
    """Return a moment as seen from now: `12 s ago`, `in 3 min 5 s`."""
    return f"in {span(moment - now)}" if moment > now else f"{span(now - moment)} ago"


def table(rows: Sequence[Sequence[object]], *, left: int = 1) -> list[str]:
    """Return rows as lines of aligned columns; the first `left` columns stand left, numbers right."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in texts
    ]
