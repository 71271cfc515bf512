"""What this process holds: deliveries it has claimed and lanes it runs. A beat compares it with what Postgres thinks."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

Key = tuple[UUID, int]


class Holdings:
    """Deliveries by (id, fence), entered before their claim is sent, so that Postgres never knows more than memory."""

    def __init__(self) -> None:
        self._deliveries: set[Key] = set()
        self.lanes: set[int] = set()

    def __len__(self) -> int:
        return len(self._deliveries)

    def __contains__(self, key: Key) -> bool:
        return key in self._deliveries

    def enter(self, keys: Iterable[Key]) -> list[Key]:
        """Hold these and return those that were not held: an (id, fence) in memory is never claimed again."""
        new = [key for key in dict.fromkeys(keys) if key not in self._deliveries]
        self._deliveries.update(new)
        return new

    def forget(self, keys: Iterable[Key]) -> None:
        """Hold these no longer."""
        self._deliveries.difference_update(keys)
