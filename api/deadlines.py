"""How long a request may take to be answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from relay.errors import Unavailable


@asynccontextmanager
async def deadline(within_s: float) -> AsyncIterator[None]:
    """Cancel what runs inside, its statement in Postgres too, when it takes longer; then raise Unavailable.

    What had been committed by then stays: who sends events again does so with their idempotency keys.
    """
    limit = asyncio.timeout(within_s)
    try:
        async with limit:
            yield
    except TimeoutError as cause:
        if not limit.expired():
            raise
        raise Unavailable(
            f"The request took longer than {within_s:g} s (REQUEST_TIMEOUT_S); it may have been carried out."
        ) from cause
