"""The requests of many changes: a file of a thousand endpoints must not stop at the client's own rate limit."""

from __future__ import annotations

import time
from typing import Any, Final

from relay.cli.api_client import Client
from relay.errors import Throttled

_TRIES: Final = 30
_LONGEST_WAIT_S: Final = 10.0
_USUAL_WAIT_S: Final = 1.0


def ask(client: Client, query: str, variables: dict[str, Any]) -> dict[str, Any]:
    """Run one operation and return its data; while Relay says that it is too early, wait as long as it says."""
    for _ in range(_TRIES):
        try:
            return client.graphql(query, variables)
        except Throttled as cause:  # refused before anything was done
            time.sleep(min(cause.retry_after_s or _USUAL_WAIT_S, _LONGEST_WAIT_S))
    return client.graphql(query, variables)
