"""A DataLoader whose answers may be waited for by several, of whom some go away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from strawberry import dataloader

K = TypeVar("K")
T = TypeVar("T")


class DataLoader(dataloader.DataLoader[K, T]):
    """Loads keys in batches, each key once in a request."""

    def load(self, key: K) -> Awaitable[T]:
        """Return what is loaded for a key; who is cancelled while waiting takes it from nobody else.

        graphql-core cancels a field when one beside it fails, and without the shield the field's load with it, for which
        others may wait.
        """
        return asyncio.shield(super().load(key))
