"""Which headers a customer may add to deliveries: what HTTP needs for itself and what Relay signs is reserved."""

from __future__ import annotations

import re
from collections.abc import Mapping

from relay.errors import Invalid

MAX_HEADERS = 50
MAX_VALUE = 4096
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}", re.ASCII)
_VALUE = re.compile(rf"[\t\x20-\x7e]{{0,{MAX_VALUE}}}", re.ASCII)
_RESERVED = frozenset({
    "host", "content-length", "content-type", "content-encoding", "transfer-encoding", "connection", "keep-alive",
    "te", "trailer", "upgrade", "expect", "accept-encoding", "user-agent", "http2-settings", "relay-replay-of",
})  # fmt: skip
_RESERVED_PREFIXES = ("webhook-", "x-relay-", "proxy-")


def check_headers(headers: Mapping[str, str], *, field: str) -> None:
    """Raise Invalid unless these are at most 50 unreserved headers of printable ASCII, no name twice in any case."""
    if len(headers) > MAX_HEADERS:
        raise Invalid(f"{field} must hold at most {MAX_HEADERS} headers.", field=field)
    if len({name.lower() for name in headers}) < len(headers):
        raise Invalid(f"{field} must not name a header twice.", field=field)
    for name, value in headers.items():
        _check_name(name, field=field)
        if not _VALUE.fullmatch(value):
            raise Invalid(f"{field}: {name} must be up to {MAX_VALUE} printable ASCII characters.", field=field)


def _check_name(name: str, *, field: str) -> None:
    if not _TOKEN.fullmatch(name):
        raise Invalid(f"{field} holds a name that is no HTTP header name.", field=field)
    if name.lower() in _RESERVED or name.lower().startswith(_RESERVED_PREFIXES):
        raise Invalid(f"{field} must not hold {name}, which is reserved.", field=field)
