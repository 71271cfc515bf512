"""How much of an event may be looked at: what keeps one client's paths and filters from holding up others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class TooMuch(Exception):
    """There is more to look at than the budget allows."""


@dataclass(slots=True)
class Budget:
    """How many more values may be looked at."""

    left: int

    def spend(self, count: int) -> None:
        """Take this much away; raise TooMuch when that is more than there is."""
        self.left -= count
        if self.left < 0:
            raise TooMuch


@dataclass(frozen=True, slots=True)
class Walk:
    """One path on its way through one document."""

    root: Any
    budget: Budget
