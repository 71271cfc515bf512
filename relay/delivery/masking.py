"""What of a request's and an answer's headers may be stored and shown: names always, values that look secret never."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import replace
from functools import lru_cache

from relay.delivery.exchange import Response

MASK = "***"
#: Shorter ones are in many an answer by chance.
_SHORTEST = 6
_SECRET = re.compile(r"auth|cookie|token|secret|passw|api-?key|credential|session", re.IGNORECASE)


def masked(headers: Iterable[tuple[str, str]], *, secret: Collection[str] = ()) -> dict[str, str]:
    """The headers with the values of credentials replaced; signatures prove and reveal nothing, they stay.

    `secret` names more of them, in lower case.
    """
    return {name: MASK if _is_secret(name) or name.lower() in secret else value for name, value in headers}


def without(response: Response, secrets: Iterable[str]) -> Response:
    """The answer with these secrets replaced, for endpoints that send back what they were sent."""
    body, headers = response.body, response.headers
    for secret in secrets:
        if len(secret) < _SHORTEST:
            continue
        body = body.replace(secret.encode(), MASK.encode())
        headers = {name: value.replace(secret, MASK) for name, value in headers.items()}
    return replace(response, body=body, headers=headers)


@lru_cache(maxsize=4096)
def _is_secret(name: str) -> bool:
    return _SECRET.search(name) is not None
