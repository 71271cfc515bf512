"""Shares of the tiers: stand-in until the real one lands."""

from __future__ import annotations

from collections.abc import Sequence


class Shares:
    """Weighted turns."""

    def __init__(self) -> None:
        self._pass = [0.0, 0.0, 0.0]

    def next(self, tiers: Sequence[int]) -> int:
        """The tier whose turn it is."""
        now = min(self._pass[tier] for tier in tiers)
        tier = min(tiers, key=lambda one: self._pass[one])
        self._pass = [max(mark, now) for mark in self._pass]
        self._pass[tier] += 1 / (60, 30, 10)[tier]
        return tier
