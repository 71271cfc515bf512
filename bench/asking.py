"""What a person waits for who asks Relay's GraphQL: each answer over its own HTTP request."""

from __future__ import annotations

import time

from relay.cli.api_client import Client


def times_ms(client: Client, query: str, *, count: int) -> list[float]:
    """Ask so often, after a tenth of it that does not count; return how long each answer took."""
    warm_up = count // 10
    taken: list[float] = []
    for _ in range(warm_up + count):
        began = time.perf_counter()
        client.graphql(query)
        taken.append(1000 * (time.perf_counter() - began))
    return taken[warm_up:]
