"""What a person waits for who asks Relay's GraphQL: each answer over its own HTTP request."""

from __future__ import annotations

import time

from relay.cli.api_client import Client

_WARM_UP = 20


def times_ms(client: Client, query: str, *, count: int) -> list[float]:
    """Ask so often, after a few times that do not count; return how long each answer took."""
    taken: list[float] = []
    for _ in range(_WARM_UP + count):
        began = time.perf_counter()
        client.graphql(query)
        taken.append(1000 * (time.perf_counter() - began))
    return taken[_WARM_UP:]
