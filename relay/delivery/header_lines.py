"""Headers as they stand on the wire: what Relay writes into a request, and what it keeps of an answer."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Of an answer's headers this much is kept.
MAX_HEADERS = 100
MAX_HEADER_CHARS = 16_384

# libcurl writes these itself: an endpoint's own could smuggle a request into a connection that other endpoints share.
_FRAMING = frozenset(
    (
        "connection",
        "content-length",
        "expect",
        "http2-settings",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
_LINE_BREAKS = re.compile(r"[\r\n\0]")
# An empty value takes a header away that libcurl would send by itself; the ones given in a request stay.
_SUPPRESSED = (b"Expect:", b"Content-Type:")


def header_lines(headers: Sequence[tuple[str, str]]) -> list[bytes]:
    """Write a request's headers as libcurl takes them, without those that frame a request and without line breaks."""
    lines: list[bytes] = [*_SUPPRESSED]
    for name, value in headers:
        if name.lower() not in _FRAMING:
            # libcurl reads "name:" as "leave this header out" and "name;" as "send it empty".
            line = f"{name}: {value}" if value.strip() else f"{name};"
            lines.append(_LINE_BREAKS.sub(" ", line).encode("utf-8", "replace"))
    return lines


def final_block(lines: Sequence[bytes]) -> Sequence[bytes]:
    """Return the lines from the last status line on: informational answers may have come before."""
    start = next((at for at in range(len(lines) - 1, -1, -1) if lines[at].startswith(b"HTTP/")), 0)
    return lines[start:]


def parse_headers(lines: Sequence[bytes]) -> dict[str, str]:
    """Read the headers that follow a status line, as many as the bounds allow, without trailers."""
    headers: dict[str, str] = {}
    text = b"".join(lines[1:]).decode("utf-8", "replace").replace("\0", "\ufffd")
    room = MAX_HEADER_CHARS
    for line in text.split("\n", MAX_HEADERS)[:MAX_HEADERS]:
        room -= len(line)
        name, colon, value = line.partition(":")
        if room < 0 or not colon:
            break
        name, value = name.strip().lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers
