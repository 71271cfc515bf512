"""Places in a JSON document as people read them: the normalized JSONPath of RFC 9535, with dots where a name allows."""

from __future__ import annotations

import re
from collections.abc import Sequence

Place = tuple[int | str, ...]
_PLAIN = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")
_LONGEST = 300


def place(steps: Sequence[int | str]) -> str:
    """Return how a place is written, like `$.lines[2].sku` or `$['a b']`; of a very long one the beginning."""
    text = "$" + "".join(_step(step) for step in steps)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


def _step(step: int | str) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    if _PLAIN.fullmatch(step):
        return f".{step}"
    quoted = step.replace("\\", "\\\\").replace("'", "\\'")
    return f"['{quoted}']"
