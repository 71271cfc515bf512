"""Whose turn it is among the tiers: 60 of 100 go to high, 30 to normal and 10 to low while all of them have work."""

from __future__ import annotations

from collections.abc import Iterable

#: By tier: how long one turn lasts for it. The tier whose turn comes first is served.
_STRIDES = (1, 2, 6)


class Shares:
    """Weighted turns (stride scheduling, Waldspurger 1995); a plain decision.

    What a tier without work leaves goes to the others in proportion; it comes back at the present and saves nothing up.
    """

    __slots__ = ("_now", "_turns")

    def __init__(self) -> None:
        self._turns = [0] * len(_STRIDES)
        self._now = 0

    def next(self, tiers: Iterable[int]) -> int:
        """Return which of the tiers that have work (at least one) is served now: 0 high, 1 normal, 2 low."""
        self._now, tier = min((max(self._turns[tier], self._now), tier) for tier in tiers)
        self._turns[tier] = self._now + _STRIDES[tier]
        return tier
