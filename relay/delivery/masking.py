"""What of a request's and an answer's headers may be stored and shown: names always, values that look secret never."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from functools import lru_cache

MASK = "***"
_SECRET = re.compile(r"auth|cookie|token|secret|passw|api-?key|credential|session", re.IGNORECASE)


def masked(headers: Iterable[tuple[str, str]], *, secret: Collection[str] = ()) -> dict[str, str]:
    """The headers with the values of credentials replaced; signatures prove and reveal nothing, they stay.

    `secret` names more of them, in lower case.
    """
    return {name: MASK if is_secret(name) or name.lower() in secret else value for name, value in headers}


@lru_cache(maxsize=4096)
def is_secret(name: str) -> bool:
    """Whether what goes by this name must not be shown."""
    return _SECRET.search(name) is not None
