"""Blanking places of a payload in what is shown; what is stored and delivered stays as it is.

Whatever goes wrong hides more and never less: a payload that a path cannot be followed in is not shown at all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from relay.catalog.partition_keys import places

#: Stands where something was.
BLANK = "[redacted]"
#: Around a number while it is text, so that it keeps its spelling: no text of a payload has this, for it is taken out.
_MARK = "\ue0ff#"
_NUMBER = re.compile(f'"{_MARK}([^"]*)"')


def blanked(payload: bytes, paths: Iterable[str]) -> bytes | None:
    """Return a JSON payload with the values at these JSONPaths replaced by "[redacted]"; None when it cannot be said where.

    Order of keys and spelling of numbers stay, spacing does not; of a key that stands twice the last is shown.
    """
    try:
        if _MARK.encode() in payload or b"\\ue0ff" in payload.lower():
            return None
        document = json.loads(payload, parse_float=_marked, parse_int=_marked)
        found = {place for path in paths for place in places(path, document)}
        for place in sorted(found, key=len, reverse=True):
            document = _without(document, place)
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
        return _NUMBER.sub(r"\1", text).encode()
    except Exception:  # a path meets payloads nobody foresaw, and nothing may be shown by mistake
        return None


def _marked(number: str) -> str:
    return _MARK + number


def _without(document: Any, place: Sequence[int | str]) -> Any:
    if not place:
        return BLANK
    parent = document
    for step in place[:-1]:
        parent = parent[step]
    parent[place[-1]] = BLANK
    return document
